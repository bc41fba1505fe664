//! lockstep-sequencer

//! lockstep-consensus

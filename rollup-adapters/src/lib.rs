//! lockstep-adapters

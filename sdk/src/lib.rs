//! lockstep-sdk

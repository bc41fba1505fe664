//! lockstep-testnet

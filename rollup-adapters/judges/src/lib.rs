//! lockstep-judges

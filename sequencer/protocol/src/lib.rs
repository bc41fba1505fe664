//! What a bundle and a lane are, and what ordering does to them. Pure.
//!
//! No runtime, clock, file, socket, float or randomly seeded map: everything here is a function of its arguments, so that
//! every validator, client and contract agrees on it.

pub mod header;
pub mod hex;
pub mod ids;

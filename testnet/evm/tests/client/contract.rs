//! Which contract do the tests call?

use alloy_primitives::{Bytes, bytes};

/// Counts its calls in slot 0, logs the count under topic 7 and returns it; reverts when it is given any input.
///
/// ```text
/// CALLDATASIZE ISZERO PUSH1 10 JUMPI  PUSH1 0 PUSH1 0 REVERT  JUMPDEST
/// PUSH1 0 SLOAD PUSH1 1 ADD DUP1 PUSH1 0 SSTORE  PUSH1 0 MSTORE
/// PUSH1 7 PUSH1 32 PUSH1 0 LOG1  PUSH1 32 PUSH1 0 RETURN
/// ```
pub const COUNTER: Bytes = bytes!("3615600a5760006000fd5b60005460010180600055600052600760206000a160206000f3");

/// Creates [`COUNTER`]: copies all but its own twelve bytes and returns them.
pub fn create_counter() -> Bytes {
    let length = u8::try_from(COUNTER.len()).expect("it is short");
    let head = [0x60, length, 0x60, 12, 0x60, 0, 0x39, 0x60, length, 0x60, 0, 0xf3];
    [&head[..], &COUNTER].concat().into()
}

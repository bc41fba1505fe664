//! Frames from anybody: read one way or refused, and no order of them confuses the bank.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::optimism::{Bank, decode_data, encode_data};

fuzz_target!(|bytes: &[u8]| {
    let Ok(frames) = decode_data(bytes) else { return };
    assert_eq!(encode_data(&frames).as_deref(), Ok(bytes));
    let mut bank = Bank::default();
    let count = frames.len();
    let mut l1_number = 0u64;
    let mut seen = 0;
    for frame in frames {
        l1_number = l1_number.saturating_add(u64::from(frame.number) % 60);
        let arrival = bank.add(l1_number, vec![frame]);
        seen += arrival.dropped;
        for ready in arrival.ready {
            assert!(ready.opened <= ready.closed && ready.closed == l1_number);
        }
    }
    assert!(seen <= count, "no frame is dropped twice");
});

//! Do bytes read as a record only if they are the bytes of its value, and is every value safe to use?

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{
    account::AccountRecord,
    state::{LaneRecord, Record, Stored, TreasuryRecord},
};

fuzz_target!(|input: (Vec<u8>, u64)| {
    let (bytes, nonce) = input;
    let mut record: Record = [0; 256];
    let length = bytes.len().min(record.len());
    record[..length].copy_from_slice(&bytes[..length]);
    if let Ok(mut account) = AccountRecord::from_record(&record) {
        assert_eq!(account.to_record(), record);
        if account.nonces.consume(nonce).is_ok() {
            assert_eq!(account.nonces.is_used(nonce), Some(true));
            assert!(account.nonces.consume(nonce).is_err());
        }
    }
    if let Ok(lane) = LaneRecord::from_record(&record) {
        assert_eq!(lane.to_record(), record);
    }
    if let Ok(treasury) = TreasuryRecord::from_record(&record) {
        assert_eq!(treasury.to_record(), record);
    }
});

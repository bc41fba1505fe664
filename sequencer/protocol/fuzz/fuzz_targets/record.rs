//! Do bytes read as a record only if they are the bytes of its value, and is every value safe to use?

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{
    account::AccountRecord,
    settlement::records::{
        DepositRecord, DuePage, ExposurePage, HeadRecord, InFlightRecord, LeaseRecord, RollupRecord, SettlementRecord,
    },
    state::{LaneRecord, Record, Stored, TreasuryRecord},
};

fn read<T: Stored>(record: &Record) {
    if let Ok(value) = T::from_record(record) {
        assert_eq!(value.to_record(), *record);
    }
}

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
    read::<LaneRecord>(&record);
    read::<TreasuryRecord>(&record);
    read::<SettlementRecord>(&record);
    read::<RollupRecord>(&record);
    read::<HeadRecord>(&record);
    read::<ExposurePage>(&record);
    read::<InFlightRecord>(&record);
    read::<DuePage>(&record);
    read::<LeaseRecord>(&record);
    read::<DepositRecord>(&record);
});

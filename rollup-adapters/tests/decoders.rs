//! Does any decoder panic, take memory for lengths that are not there, or read one thing in two ways?
//!
//! Whatever is read is written back to the same bytes. proptest prints the failing input, cut to its smallest.

use std::io::Write;

use lockstep_adapters::{
    DecodeError,
    conformance::Seed,
    optimism::{
        BLOB_DATA_BYTES_MAX, CHANNEL_BYTES_MAX, Compression, SPAN_ELEMENTS_MAX, SingularBatch, SpanBatch, SpanBlock,
        check, compress, decode_blob, decode_data, decompress, encode_blob, encode_data, split,
    },
};
use proptest::{collection::vec, prelude::*};

const CHAIN: u64 = 10;

/// A legacy transaction with a signature that names `CHAIN`, creating a contract.
fn legacy() -> Vec<u8> {
    let mut out = vec![0xf8, 0x49, 0x01, 0x02, 0x03, 0x80, 0x04, 0x80, 0x37];
    out.extend([0xa0; 1].iter().chain(&[0x11; 32]));
    out.extend([0xa0; 1].iter().chain(&[0x22; 32]));
    out
}

fn span() -> Vec<u8> {
    let block = SpanBlock { origin_changed: false, transactions: vec![legacy(); 3] };
    let span = SpanBatch { relative_timestamp: 300, l1_origin_number: 7, blocks: vec![block; 9], ..Default::default() };
    span.encode(CHAIN).expect("fit transactions")
}

/// Valid bytes with one place changed, cut, or grown.
fn spoiled(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = valid.len();
    (0..length, any::<u8>(), 0..3u8).prop_map(move |(at, byte, how)| {
        let mut bytes = valid.clone();
        match how {
            0 => bytes[at] = byte,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, byte),
        }
        bytes
    })
}

fn singular_holds(bytes: &[u8]) {
    if let Ok(batch) = SingularBatch::decode(bytes) {
        assert_eq!(batch.encode()[1..], *bytes);
    }
}

fn span_holds(bytes: &[u8]) {
    if let Ok(batch) = SpanBatch::decode(bytes, CHAIN) {
        assert_eq!(batch.encode(CHAIN).expect("what was read can be written")[1..], *bytes);
    }
}

fn data_holds(bytes: &[u8]) {
    if let Ok(frames) = decode_data(bytes) {
        assert_eq!(encode_data(&frames).expect("what was read can be written"), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_refused_or_read_one_way(bytes in vec(any::<u8>(), 0..400)) {
        singular_holds(&bytes);
        span_holds(&bytes);
        data_holds(&bytes);
        drop(decompress(&bytes));
        drop(decode_blob(&bytes));
        let _ = check(&bytes, CHAIN);
    }

    #[test]
    fn spoiled_span_batches_are_refused_or_read_one_way(bytes in spoiled(span())) {
        span_holds(&bytes[1.min(bytes.len())..]);
    }

    #[test]
    fn spoiled_singular_batches_are_refused_or_read_one_way(
        bytes in spoiled(SingularBatch { transactions: vec![legacy(); 2], ..Default::default() }.encode())
    ) {
        singular_holds(&bytes[1.min(bytes.len())..]);
    }

    #[test]
    fn spoiled_frames_are_refused_or_read_one_way(
        bytes in spoiled(encode_data(&split(&[5; 90], 60).expect("splits")).expect("encodes"))
    ) {
        data_holds(&bytes);
    }

    #[test]
    fn spoiled_transactions_are_refused_or_unchanged_by_a_span(bytes in spoiled(legacy())) {
        if check(&bytes, CHAIN).is_ok() {
            let block = SpanBlock { origin_changed: true, transactions: vec![bytes.clone()] };
            let span = SpanBatch { blocks: vec![block.clone()], ..Default::default() };
            let encoded = span.encode(CHAIN).expect("a fit transaction");
            prop_assert_eq!(&SpanBatch::decode(&encoded[1..], CHAIN).expect("reads back").blocks, &[block]);
        }
    }

    #[test]
    fn channels_are_read_back_and_cut_ones_are_refused(
        batches in vec(vec(any::<u8>(), 2..300), 0..20), quality in 0..12u32, brotli in any::<bool>(), cut in any::<prop::sample::Index>()
    ) {
        let compression =
            if brotli { Compression::Brotli { quality } } else { Compression::Zlib { level: quality.min(9) } };
        let channel = compress(&batches, compression).expect("compresses");
        prop_assert_eq!(decompress(&channel), Ok(batches));
        prop_assert!(decompress(&channel[..cut.index(channel.len())]).is_err());
        let mut longer = channel;
        longer.push(0);
        prop_assert!(decompress(&longer).is_err());
    }
}

#[test]
fn blobs_hold_what_fits_and_refuse_anything_else() {
    let seed = &mut Seed(1);
    for length in [0, 1, 26, 27, 28, 31, 123, 124, 127, 128, 5_000, BLOB_DATA_BYTES_MAX - 1, BLOB_DATA_BYTES_MAX] {
        let data: Vec<u8> = (0..length).map(|_| seed.draw() as u8).collect();
        let blob = encode_blob(&data).expect("fits");
        assert_eq!(decode_blob(&blob).as_ref(), Ok(&data));
        for _ in 0..200 {
            let (at, bit) = (seed.below(blob.len() as u64) as usize, seed.below(8));
            let mut spoiled = blob.clone();
            spoiled[at] ^= 1 << bit;
            // Every bit of a blob means something: data, length, version, or a zero that must be there.
            assert_ne!(decode_blob(&spoiled).as_ref(), Ok(&data), "byte {at}, bit {bit}");
        }
        assert!(decode_blob(&blob[1..]).is_err());
    }
    assert!(encode_blob(&vec![0; BLOB_DATA_BYTES_MAX + 1]).is_err());
}

#[test]
fn a_channel_that_grows_beyond_its_limit_is_refused_while_it_is_decompressed() {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let chunk = vec![0; 1_000_000];
    for _ in 0..=CHANNEL_BYTES_MAX / chunk.len() {
        zlib.write_all(&chunk).expect("writes to memory");
    }
    let bomb = zlib.finish().expect("writes to memory");
    assert!(bomb.len() < 1_000_000);
    let limit = CHANNEL_BYTES_MAX as u64;
    assert_eq!(decompress(&bomb), Err(DecodeError::Limit { what: "channel", limit, found: limit + 1 }));
}

#[test]
fn a_span_that_claims_more_than_it_holds_is_refused_before_memory_is_taken() {
    let prefix = [&[1, 1][..], &[0; 40]].concat();
    let varint = |mut value: u64| {
        let mut out = vec![];
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    };
    let claim = |blocks: u64| SpanBatch::decode(&[prefix.clone(), varint(blocks), vec![0; 64]].concat(), CHAIN);
    assert!(matches!(claim(0), Err(DecodeError::Invalid { .. })));
    assert!(matches!(claim(SPAN_ELEMENTS_MAX), Err(DecodeError::Truncated("blocks of a span"))));
    assert!(matches!(claim(SPAN_ELEMENTS_MAX + 1), Err(DecodeError::Limit { .. })));
    assert!(matches!(claim(u64::MAX), Err(DecodeError::Limit { .. })));
    // One block with more transactions than the rest could hold.
    let counts = [prefix.clone(), vec![1, 0], varint(1_000_000), vec![0; 640]].concat();
    assert!(matches!(SpanBatch::decode(&counts, CHAIN), Err(DecodeError::Truncated("transactions of a block"))));
    // Many blocks whose counts are possible one by one, not together.
    let counts = [prefix, vec![60], vec![0; 8], vec![9; 60], vec![0; 700]].concat();
    assert!(matches!(SpanBatch::decode(&counts, CHAIN), Err(DecodeError::Truncated("transactions of a span"))));
}

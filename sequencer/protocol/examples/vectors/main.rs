//! Rewrites the golden vectors: `cargo run --release -p lockstep-protocol --example vectors`.
//!
//! A vector that changes is a change of the wire: `WIRE_VERSION` rises or nobody else can read us, and the commit says so.

use std::{fs, path::Path};

#[path = "../../tests/protocol/fixture.rs"]
mod fixture;
#[path = "../../tests/protocol/golden.rs"]
mod golden;
#[path = "../../tests/protocol/golden_settlement.rs"]
mod golden_settlement;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    fs::create_dir_all(&folder)?;
    for (name, value) in golden::files() {
        fs::write(folder.join(name).with_extension("json"), format!("{value:#}\n"))?;
    }
    Ok(())
}

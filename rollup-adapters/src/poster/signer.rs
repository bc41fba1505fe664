//! Who holds the key that pays on L1?
//!
//! A file that only its owner can read, or an external command, so that the key never has to be in this process (a vault, a
//! KMS, a hardware wallet). The command is started once per signature:
//!
//! ```text
//! stdin   {"address":"0x..","chainId":1,"hash":"0x<32 bytes to sign>","transaction":"0x<unsigned, EIP-2718>"}   one line
//! stdout  {"signature":"0x<r: 32 bytes><s: 32 bytes><v: 1 byte, 0 or 1, or 27 or 28>"}                           one line
//! ```
//!
//! `transaction` lets it check what it signs: `hash` is its keccak256. What comes back is checked: a signature of another key
//! is refused here.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use alloy_primitives::{Address, B256, Bytes, Signature, U256, hex, keccak256};
use secp256k1::{
    Message, PublicKey, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, process::Command};

/// A command that signs may ask a person or a network: this long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest key file: a line.
const KEY_FILE_BYTES_MAX: u64 = 4_096;
/// Longest answer of a command: a line.
const ANSWER_BYTES_MAX: usize = 4_096;

/// Where the key is, as configured: exactly one of `key_file` and `command`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// A file as `lockstep keys new --kind secp256k1` writes it, or 64 hex digits; mode 0600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Program and arguments of an external signer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The address whose key the command has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// Why nothing was signed. No variant carries a secret.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// Neither or both.
    #[error("the signer needs either `key_file`, or `command` and `address`")]
    Ambiguous,
    /// The file.
    #[error("key file {path}: {detail}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, without its content.
        detail: String,
    },
    /// The command.
    #[error("signer command {program}: {detail}")]
    Command {
        /// Which.
        program: String,
        /// What went wrong.
        detail: String,
    },
    /// The signature is of another key.
    #[error("the signer command signed as {found}, its address is said to be {expected}")]
    Address {
        /// The configured address.
        expected: Address,
        /// The address of the key that signed.
        found: Address,
    },
}

/// A key, or a way to it.
pub enum Signer {
    /// In this process.
    Key {
        /// The secret.
        key: Box<SecretKey>,
        /// Its address.
        address: Address,
    },
    /// Elsewhere.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// The address of its key.
        address: Address,
    },
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.address())
    }
}

impl Signer {
    /// The configured signer. Paths are relative to `folder`.
    pub fn open(config: &SignerConfig, folder: &Path) -> Result<Self, SignerError> {
        match (&config.key_file, config.command.first(), config.address) {
            (Some(path), None, _) => {
                let path = folder.join(path);
                let text = read(&path)?;
                let digits = text.trim().trim_start_matches("secp256k1:");
                let file = |detail: &str| SignerError::File { path: path.clone(), detail: detail.to_owned() };
                let secret: [u8; 32] =
                    hex::decode_to_array(digits).map_err(|_| file("not a secp256k1 key of 64 hex digits"))?;
                Self::from_secret(secret).ok_or_else(|| file("not a key: zero, or not below the group order"))
            }
            (None, Some(_), Some(address)) => Ok(Self::Command { command: config.command.clone(), address }),
            _ => Err(SignerError::Ambiguous),
        }
    }

    /// A key in memory; `None` if it is zero or not below the group order.
    pub fn from_secret(secret: [u8; 32]) -> Option<Self> {
        let key = SecretKey::from_byte_array(secret).ok()?;
        let address = address_of(&PublicKey::from_secret_key(SECP256K1, &key));
        Some(Self::Key { key: Box::new(key), address })
    }

    /// The address that signs.
    pub fn address(&self) -> Address {
        match self {
            Self::Key { address, .. } | Self::Command { address, .. } => *address,
        }
    }

    /// Signs the hash of an unsigned transaction.
    pub async fn sign(&self, chain_id: u64, hash: B256, unsigned: &[u8]) -> Result<Signature, SignerError> {
        match self {
            Self::Key { key, .. } => {
                let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), key);
                let (recovery, compact) = signature.serialize_compact();
                let (r, s) = compact.split_at(32);
                Ok(Signature::new(U256::from_be_slice(r), U256::from_be_slice(s), i32::from(recovery) == 1))
            }
            Self::Command { command, address } => ask(command, *address, chain_id, hash, unsigned).await,
        }
    }
}

/// Reads a file with a key, if its owner alone can.
pub(crate) fn read(path: &Path) -> Result<String, SignerError> {
    let fail = |detail: String| SignerError::File { path: path.to_owned(), detail };
    let metadata = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(fail(format!("can be read by others (mode {mode:o}): run `chmod 600` on it")));
        }
    }
    if metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(fail(format!("{} bytes are not a key", metadata.len())));
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

fn address_of(key: &PublicKey) -> Address {
    Address::from_raw_public_key(&key.serialize_uncompressed()[1..])
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    address: Address,
    chain_id: u64,
    hash: B256,
    transaction: Bytes,
}

#[derive(Deserialize)]
struct Answer {
    signature: Bytes,
}

async fn ask(
    command: &[String],
    address: Address,
    chain_id: u64,
    hash: B256,
    unsigned: &[u8],
) -> Result<Signature, SignerError> {
    let program = command.first().cloned().unwrap_or_default();
    let fail = |detail: String| SignerError::Command { program: program.clone(), detail };
    debug_assert_eq!(keccak256(unsigned), hash);
    let question = Question { address, chain_id, hash, transaction: Bytes::copy_from_slice(unsigned) };
    let mut line = serde_json::to_vec(&question).expect("hex strings have a JSON form");
    line.push(b'\n');
    let mut child = Command::new(&program)
        .args(command.get(1..).unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| fail(error.to_string()))?;
    let mut stdin = child.stdin.take().ok_or_else(|| fail("has no standard input".into()))?;
    let talk = async move {
        // A command that needs no question may have closed its end already.
        let _ = stdin.write_all(&line).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(COMMAND_TIMEOUT, talk).await {
        Err(_) => return Err(fail(format!("gave no answer within {} s", COMMAND_TIMEOUT.as_secs()))),
        Ok(output) => output.map_err(|error| fail(error.to_string()))?,
    };
    if !output.status.success() {
        return Err(fail(format!("ended with {}", output.status)));
    }
    if output.stdout.len() > ANSWER_BYTES_MAX {
        return Err(fail(format!("answered with {} bytes", output.stdout.len())));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|error| fail(error.to_string()))?;
    let signature = parse(&answer.signature).ok_or_else(|| fail("its signature is not r, s and v".into()))?;
    let found = recover(hash, &signature).ok_or_else(|| fail("its signature is of no key".into()))?;
    if found != address {
        return Err(SignerError::Address { expected: address, found });
    }
    Ok(signature)
}

/// `r || s || v`, with `s` in its low form, as L1 wants it.
fn parse(bytes: &[u8]) -> Option<Signature> {
    let [rest @ .., v] = bytes else { return None };
    let odd = match v {
        0 | 27 => false,
        1 | 28 => true,
        _ => return None,
    };
    let (r, s) = rest.split_at_checked(32).filter(|(_, s)| s.len() == 32)?;
    Some(Signature::new(U256::from_be_slice(r), U256::from_be_slice(s), odd).normalized_s())
}

/// Whose signature of `hash` this is.
pub fn recover(hash: B256, signature: &Signature) -> Option<Address> {
    let id = if signature.v() { RecoveryId::One } else { RecoveryId::Zero };
    let compact = [signature.r().to_be_bytes::<32>(), signature.s().to_be_bytes::<32>()].concat();
    let signature = RecoverableSignature::from_compact(&compact, id).ok()?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature).ok()?;
    Some(address_of(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first account of every development node, so that its address is known from elsewhere.
    const SECRET: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    const ADDRESS: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("lockstep-signer-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        folder
    }

    fn key_file(name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("permissions");
        path
    }

    #[tokio::test]
    async fn a_key_file_signs_for_the_address_that_everybody_computes() {
        for text in [format!("{SECRET}\n"), format!("secp256k1:0x{SECRET}\n"), format!("0x{SECRET}")] {
            let key_file = Some(key_file("good", &text, 0o600));
            let signer = Signer::open(&SignerConfig { key_file, ..Default::default() }, Path::new("/")).expect("a key");
            assert_eq!(signer.address().to_string(), ADDRESS);
            let signature = signer.sign(1, keccak256([1]), &[1]).await.expect("signs");
            assert_eq!(recover(keccak256([1]), &signature), Some(signer.address()));
            assert_ne!(recover(keccak256([2]), &signature), Some(signer.address()));
        }
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused_without_telling_it() {
        for (text, mode) in [(SECRET, 0o644), ("ed25519:0x07", 0o600), (&"00".repeat(32)[..], 0o600)] {
            let key_file = Some(key_file("bad", text, mode));
            let error = Signer::open(&SignerConfig { key_file, ..Default::default() }, Path::new("/"));
            let error = error.expect_err("refused").to_string();
            assert!(!error.contains(&SECRET[..8]), "{error}");
        }
        assert!(matches!(Signer::open(&SignerConfig::default(), Path::new("/")), Err(SignerError::Ambiguous)));
    }

    #[tokio::test]
    async fn an_external_command_signs_and_one_with_another_key_is_refused() {
        let key = Signer::from_secret(hex::decode_to_array(SECRET).expect("hex")).expect("a key");
        let unsigned = b"an unsigned transaction";
        let signature = key.sign(7, keccak256(unsigned), unsigned).await.expect("signs");
        let answer = format!(r#"{{"signature":"{}"}}"#, hex::encode_prefixed(signature.as_bytes()));
        // It answers only if the question names the hash, as a signer that checks what it signs would.
        let hash = keccak256(unsigned).to_string();
        let script = format!("grep -q '\"chainId\":7,\"hash\":\"{hash}\"' && echo '{answer}'");
        let command = vec!["sh".into(), "-c".into(), script];
        let config = SignerConfig { command: command.clone(), address: Some(key.address()), key_file: None };
        let signer = Signer::open(&config, Path::new("/")).expect("configured");
        assert_eq!(signer.sign(7, keccak256(unsigned), unsigned).await.expect("signs"), signature);
        assert!(matches!(signer.sign(8, keccak256(unsigned), unsigned).await, Err(SignerError::Command { .. })));
        let other = Signer::Command { command, address: Address::repeat_byte(1) };
        let refused = other.sign(7, keccak256(unsigned), unsigned).await;
        assert!(matches!(refused, Err(SignerError::Address { found, .. }) if found == key.address()), "{refused:?}");
        let silent = Signer::Command { command: vec!["false".into()], address: key.address() };
        assert!(matches!(silent.sign(7, keccak256(unsigned), unsigned).await, Err(SignerError::Command { .. })));
    }
}

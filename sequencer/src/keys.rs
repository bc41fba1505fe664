//! Which files hold a network's secrets, and how does a new network get all of its files?
//!
//! A key file is one line, `<kind>:0x<hex>`, readable by its owner alone. The cryptography is in `lockstep-consensus`
//! (validators) and `lockstep-protocol` (accounts); here are the files.

use std::{
    collections::BTreeMap,
    fmt,
    io::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use lockstep_consensus::keys::{Group, Identity, KeyError};
use lockstep_protocol::{
    genesis::{Balance, Genesis, GenesisError, GroupKeyBytes, Rollup},
    hex,
    ids::{Account, Hash32},
    settlement::config::SettlementConfig,
    signature::AccountKey,
};
use rand::{TryRngCore, rngs::OsRng};

mod settlement;

pub use settlement::{SETTLEMENT_EXAMPLE, Settlements, load_settlements};

use crate::config::{Config, KeyPaths, L1Config, Log, P2p, Pace, Pool, Retention, RollupConfig, Rpc};

/// Longest key file: a line of a kind and a few dozen bytes in hexadecimal.
const MAX_KEY_FILE_BYTES: u64 = 4096;
/// Longest genesis file: the accounts that a genesis may fund, with their JSON around them.
const MAX_GENESIS_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What a key file holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The seed of an ed25519 key: a validator's, or an account's.
    Ed25519([u8; 32]),
    /// The scalar of a secp256k1 key: an account's.
    Secp256k1([u8; 32]),
    /// A validator's share of the group key, as the consensus engine encodes it.
    Share(Vec<u8>),
}

/// Which kind of account key to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AccountKind {
    /// Fastest to verify.
    #[default]
    Ed25519,
    /// What an Ethereum wallet holds.
    Secp256k1,
}

/// Where one validator listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// For the other validators.
    pub p2p: SocketAddr,
    /// For everybody.
    pub rpc: SocketAddr,
}

/// What a new network shall be.
#[derive(Clone, Debug)]
pub struct DealOptions {
    /// Its name, mixed into everything that is signed.
    pub network: String,
    /// Its rollups, in any order.
    pub rollups: Vec<Rollup>,
    /// First balances, in any order.
    pub balances: Vec<Balance>,
    /// Its validators, one for each place.
    pub places: Vec<Place>,
    /// When its blocks are made.
    pub pace: Pace,
    /// The L1 node that every validator looks at. Each operator should put one of their own there.
    pub l1: Option<L1Config>,
    /// What may move between rollups; without it nothing does.
    pub settlement: Option<SettlementConfig>,
    /// The rollup nodes that every validator looks at. Each operator should put their own there.
    pub rollup_nodes: Vec<RollupConfig>,
    /// The folder to write to. It may exist, but not hold a network already.
    pub out: PathBuf,
}

/// A network's files, as they were written.
#[derive(Clone, Debug)]
pub struct Dealt {
    /// What all members agree on.
    pub genesis: Genesis,
    /// The file that holds it.
    pub genesis_file: PathBuf,
    /// The validators, in the order of the places that were given.
    pub validators: Vec<DealtValidator>,
}

/// One validator's files.
#[derive(Clone, Debug)]
pub struct DealtValidator {
    /// Its ed25519 public key.
    pub name: Hash32,
    /// Its folder: all that its machine needs.
    pub folder: PathBuf,
    /// What `lockstep node --config` takes.
    pub config: PathBuf,
    /// Where it listens.
    pub place: Place,
}

/// Why a key or a network's files cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody else on the machine could read a secret.
    #[error(
        "{path} can be read by others (mode {mode:o}): run `chmod 600 {path}`, and think about who may have read it"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is not what its name promised.
    #[error("{path}: {detail}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The folder holds a network already.
    #[error("{0} is there already: choose another --out, or move it away (whoever holds it can run the old network)")]
    Exists(PathBuf),
    /// The network as described cannot be.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The validators cannot be.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(rand::rand_core::OsError),
}

impl Secret {
    /// A new key for an account.
    pub fn generate(kind: AccountKind) -> Result<Self, KeysError> {
        loop {
            let mut bytes = [0; 32];
            OsRng.try_fill_bytes(&mut bytes).map_err(KeysError::Random)?;
            match kind {
                AccountKind::Ed25519 => return Ok(Self::Ed25519(bytes)),
                // All but one in 2^128 strings of bytes are a scalar.
                AccountKind::Secp256k1 if AccountKey::secp256k1(bytes).is_some() => return Ok(Self::Secp256k1(bytes)),
                AccountKind::Secp256k1 => {}
            }
        }
    }

    /// Reads a key file, and refuses one that others can read.
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        refuse_exposed(path)?;
        let text = read(path, MAX_KEY_FILE_BYTES)?;
        text.trim().parse().map_err(|detail| KeysError::Content { path: path.to_owned(), detail })
    }

    /// Writes a key file that is not there yet.
    pub fn save(&self, path: &Path) -> Result<(), KeysError> {
        write_secret(path, &self.line()).map_err(|source| KeysError::Write { path: path.to_owned(), source })
    }

    /// The key that signs for an account, if this is one.
    pub fn account_key(&self) -> Option<AccountKey> {
        match self {
            Self::Ed25519(seed) => Some(AccountKey::ed25519(*seed)),
            Self::Secp256k1(scalar) => AccountKey::secp256k1(*scalar),
            Self::Share(_) => None,
        }
    }

    /// What may be told of it, for people.
    pub fn public(&self) -> String {
        match self.account_key() {
            Some(key) => key.account().to_string(),
            None => "a share of a group key: the public part is in genesis.json".into(),
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Ed25519(seed) => format!("ed25519:{}\n", hex::encode(seed)),
            Self::Secp256k1(scalar) => format!("secp256k1:{}\n", hex::encode(scalar)),
            Self::Share(share) => format!("share:{}\n", hex::encode(share)),
        }
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "not a key file: expected one line `ed25519:0x..`, `secp256k1:0x..` or `share:0x..`".to_owned();
        let (kind, digits) = text.split_once(':').ok_or_else(expected)?;
        match kind {
            "ed25519" => hex::decode_fixed(digits).map(Self::Ed25519).map_err(|error| error.to_string()),
            "secp256k1" => {
                let scalar = hex::decode_fixed(digits).map_err(|error| error.to_string())?;
                AccountKey::secp256k1(scalar).ok_or("not a secp256k1 key: zero, or above the group order")?;
                Ok(Self::Secp256k1(scalar))
            }
            "share" => hex::decode(digits).map(Self::Share).map_err(|error| error.to_string()),
            _ => Err(expected()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.public())
    }
}

/// Reads `account` as people write it: `ed25519:0x<32 bytes>` or `secp256k1:0x<20 bytes>`.
pub fn parse_account(text: &str) -> Result<Account, String> {
    let (kind, digits) = text.split_once(':').ok_or("expected ed25519:0x.. or secp256k1:0x..")?;
    match kind {
        "ed25519" => digits.parse().map(Account::Ed25519).map_err(|error: hex::HexError| error.to_string()),
        "secp256k1" => digits.parse().map(Account::Secp256k1).map_err(|error: hex::HexError| error.to_string()),
        _ => Err("expected ed25519:0x.. or secp256k1:0x..".into()),
    }
}

/// Reads and checks a `genesis.json`.
pub fn load_genesis(path: &Path) -> Result<Genesis, KeysError> {
    let text = read(path, MAX_GENESIS_FILE_BYTES)?;
    let content = |detail: String| KeysError::Content { path: path.to_owned(), detail };
    let genesis: Genesis = serde_json::from_str(&text).map_err(|error| content(format!("not a genesis: {error}")))?;
    genesis.rules()?;
    let group = Group::decode(&genesis.sharing)?;
    if group.public_key() != genesis.group_key.0 {
        return Err(content("groupKey is not the key that sharing shares".into()));
    }
    if !group.validators().eq(genesis.validators.iter().copied()) {
        return Err(content("validators are not those that share the group key".into()));
    }
    Ok(genesis)
}

/// Reads a validator's two key files.
pub fn load_identity(paths: &KeyPaths) -> Result<Identity, KeysError> {
    let wrong = |path: &Path, wanted: &str| KeysError::Content {
        path: path.to_owned(),
        detail: format!("expected a line `{wanted}:0x..` (did you swap the two key files?)"),
    };
    let Secret::Ed25519(seed) = Secret::load(&paths.validator)? else {
        return Err(wrong(&paths.validator, "ed25519"));
    };
    let Secret::Share(share) = Secret::load(&paths.share)? else {
        return Err(wrong(&paths.share, "share"));
    };
    Ok(Identity::decode(&seed, &share)?)
}

/// Makes a network: its keys, its genesis and a folder for each validator.
///
/// Whoever runs this has seen every secret. Move each folder to its validator's machine, and keep none.
pub fn deal(options: DealOptions) -> Result<Dealt, KeysError> {
    let DealOptions { network, mut rollups, mut balances, places, pace, l1, settlement, rollup_nodes, out } = options;
    rollups.sort_by_key(|rollup| rollup.id);
    balances.sort_by_key(|balance| balance.account);
    let count = u32::try_from(places.len()).map_err(|_| KeyError::Validators(places.len()))?;
    let (group, identities) = lockstep_consensus::keys::deal(count)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let genesis = Genesis {
        network,
        timestamp_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        group_key: GroupKeyBytes(group.public_key()),
        sharing: group.encode(),
        validators: group.validators().collect(),
        rollups,
        balances,
        settlement,
    };
    genesis.rules()?;
    let genesis_file = out.join("genesis.json");
    if genesis_file.exists() {
        return Err(KeysError::Exists(genesis_file));
    }
    let json = serde_json::to_string_pretty(&genesis).expect("a genesis has a JSON form") + "\n";
    let peers: BTreeMap<_, _> =
        identities.iter().zip(&places).map(|(identity, place)| (identity.name(), place.p2p)).collect();
    let local = places.iter().any(|place| is_private(place.p2p.ip()));
    make_folder(&out)?;
    let mut validators = Vec::with_capacity(places.len());
    for (index, (identity, place)) in identities.iter().zip(&places).enumerate() {
        let folder = out.join(format!("validator-{index}"));
        make_folder(&folder)?;
        Secret::Ed25519(identity.seed()).save(&folder.join("validator.key"))?;
        Secret::Share(identity.share()).save(&folder.join("share.key"))?;
        write(&folder.join("genesis.json"), &json)?;
        let config = Config {
            genesis: "genesis.json".into(),
            data: "data".into(),
            threads: 0,
            keys: KeyPaths { validator: "validator.key".into(), share: "share.key".into() },
            p2p: P2p { listen: place.p2p, local, peers: peers.clone() },
            rpc: Rpc { listen: place.rpc, ..Rpc::default() },
            public: None,
            l1: l1.clone(),
            rollups: rollup_nodes.clone(),
            pace: pace.clone(),
            pool: Pool::default(),
            retention: Retention::default(),
            log: Log::default(),
        };
        let config_file = folder.join("node.toml");
        write(&config_file, &config.to_toml())?;
        validators.push(DealtValidator { name: identity.name(), folder, config: config_file, place: *place });
    }
    // Last, so that a folder with a genesis is a complete one.
    write(&genesis_file, &json)?;
    Ok(Dealt { genesis, genesis_file, validators })
}

/// Whether an address means nothing to the rest of the world.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

fn make_folder(path: &Path) -> Result<(), KeysError> {
    std::fs::create_dir_all(path).map_err(|source| KeysError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), KeysError> {
    std::fs::write(path, text).map_err(|source| KeysError::Write { path: path.to_owned(), source })
}

fn read(path: &Path, max: u64) -> Result<String, KeysError> {
    let read_error = |source| KeysError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(read_error)?.len();
    if length > max {
        let detail = format!("{length} bytes, at most {max} are expected");
        return Err(KeysError::Content { path: path.to_owned(), detail });
    }
    std::fs::read_to_string(path).map_err(read_error)
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn refuse_exposed(path: &Path) -> Result<(), KeysError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|source| KeysError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path) -> Result<(), KeysError> {
    Ok(())
}

#[cfg(test)]
mod tests;

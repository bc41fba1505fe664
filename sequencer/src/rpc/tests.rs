//! Does the RPC answer as its description says, refuse with a reason, and outlive what it is sent?

use std::{collections::BTreeSet, time::Instant};

use lockstep_protocol::{
    account::AccountRecord,
    certificate::Verifier,
    evidence::{self, BundleState, Reports},
    hex,
    ids::{Hash32, Height},
    lane::{LaneFollower, LaneItem},
    rpc::{FinalHeader, LanePage, StateProof, codes},
    state::Stored,
    wire::Wire,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::*;
use crate::{
    fixture,
    node::{
        Node,
        tests::{Network as TestNetwork, PATIENCE, order, reached, stop},
    },
};

pub(crate) fn hex_of(message: &impl Wire) -> String {
    hex::encode(&message.to_wire())
}

/// Sends one HTTP request; returns status and body.
async fn http(address: SocketAddr, request: String) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // A request that is too long is answered, and the connection closed, before all of it was sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
        String::from_utf8(answer).expect("text")
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    http(address, format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n")).await
}

async fn post(address: SocketAddr, body: &str) -> (u16, String) {
    let length = body.len();
    let head = "POST / HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-type: application/json";
    http(address, format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}")).await
}

pub(crate) async fn call(address: SocketAddr, method: &str, params: Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let (status, body) = post(address, &request.to_string()).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

async fn result(node: &Node, method: &str, params: Value) -> Value {
    let answer = call(node.rpc_address(), method, params).await;
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    check_result(method, &answer["result"]);
    answer["result"].clone()
}

/// A WebSocket connection that reads only when it is told to.
struct Socket(TcpStream);

impl Socket {
    async fn open(address: SocketAddr) -> Self {
        tokio::time::timeout(PATIENCE, Self::connect(address)).await.expect("a connection in time")
    }

    async fn connect(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small window");
        let mut stream = socket.connect(address).await.expect("it listens");
        let request = "GET / HTTP/1.1\r\nhost: node\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    async fn send(&mut self, value: Value) {
        let text = value.to_string();
        // One text frame, masked with zeros.
        let mut frame = vec![0x81, 0xfe];
        frame.extend_from_slice(&u16::try_from(text.len()).expect("a short request").to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.0.write_all(&frame).await.expect("sent");
    }

    /// The next text message.
    async fn receive(&mut self) -> Value {
        let read = async {
            loop {
                let head = [self.0.read_u8().await?, self.0.read_u8().await?];
                let length = match head[1] {
                    126 => u64::from(self.0.read_u16().await?),
                    127 => self.0.read_u64().await?,
                    length => u64::from(length),
                };
                let mut payload = vec![0; usize::try_from(length).expect("fits")];
                self.0.read_exact(&mut payload).await?;
                if head[0] == 0x81 {
                    return Ok::<_, std::io::Error>(payload);
                }
            }
        };
        let payload = tokio::time::timeout(PATIENCE, read).await.expect("a message in time").expect("a message");
        serde_json::from_slice(&payload).expect("JSON")
    }

    async fn subscribe(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        loop {
            let message = self.receive().await;
            if message["id"] == json!(id) {
                return message;
            }
        }
    }
}

fn description() -> Value {
    serde_json::from_str(OPENRPC).expect("the description is JSON")
}

fn described(method: &str) -> Value {
    let methods = description()["methods"].as_array().expect("methods").clone();
    methods.into_iter().find(|found| found["name"] == method).unwrap_or_else(|| panic!("{method} is not described"))
}

pub(crate) fn check_result(method: &str, value: &Value) {
    let schema = described(method)["result"]["schema"].clone();
    check(&description(), &schema, value).unwrap_or_else(|error| panic!("{method}: {error}\n{value}"));
}

/// Checks a value against the part of JSON Schema that the description uses.
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().ok_or("a schema is an object")? {
        match keyword.as_str() {
            "$ref" => {
                let path = rule.as_str().and_then(|path| path.strip_prefix('#')).ok_or("a reference")?;
                check(root, root.pointer(path).ok_or(format!("{path} leads nowhere"))?, value)?;
            }
            "const" if rule == value => {}
            "const" => return Err(format!("{value} is not {rule}")),
            "enum" if rule.as_array().ok_or("a list")?.contains(value) => {}
            "enum" => return Err(format!("{value} is not one of {rule}")),
            "oneOf" | "anyOf" => {
                let all = rule.as_array().ok_or("a list")?;
                let fits = all.iter().filter(|schema| check(root, schema, value).is_ok()).count();
                if fits == 0 || (keyword == "oneOf" && fits > 1) {
                    return Err(format!("{value} fits {fits} of {}", all.len()));
                }
            }
            "type" => {
                let fits = match rule.as_str().ok_or("a type")? {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => return Err(format!("unknown type {other}")),
                };
                if !fits {
                    return Err(format!("{value} is not of type {rule}"));
                }
            }
            "required" => {
                for name in rule.as_array().ok_or("a list")? {
                    value.get(name.as_str().ok_or("a name")?).ok_or(format!("{name} is missing in {value}"))?;
                }
            }
            "properties" => {
                for (name, value) in value.as_object().ok_or("an object")? {
                    let schema = rule.get(name).ok_or(format!("{name} is not described"))?;
                    check(root, schema, value).map_err(|error| format!("{name}: {error}"))?;
                }
            }
            "items" => value.as_array().ok_or("a list")?.iter().try_for_each(|value| check(root, rule, value))?,
            "minimum" if value.as_u64() >= rule.as_u64() => {}
            "minimum" => return Err(format!("{value} is below {rule}")),
            "pattern" => check_pattern(rule.as_str().ok_or("a pattern")?, value.as_str().ok_or("a text")?)?,
            "description" | "additionalProperties" => {}
            other => return Err(format!("unknown keyword {other}")),
        }
    }
    Ok(())
}

/// All patterns are decimal digits, or hexadecimal of a length, or of any.
fn check_pattern(pattern: &str, text: &str) -> Result<(), String> {
    if pattern == "^[0-9]+$" {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        return if fits { Ok(()) } else { Err(format!("{text} is not a decimal number")) };
    }
    let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let digits = digits.ok_or(format!("{text} is not hexadecimal"))?;
    let lengths: Vec<usize> = pattern.split(['{', '}']).filter_map(|part| part.parse().ok()).collect();
    let fits = pattern.ends_with(")*$") && digits.len() % 2 == 0 || lengths.contains(&digits.len());
    if fits { Ok(()) } else { Err(format!("{text} does not fit {pattern}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_described_and_proves_itself() {
    let network = TestNetwork::deal(1);
    let node = network.start(0).await;
    reached(&node, 1).await;
    let told = result(&node, "lockstep_getNetwork", json!([])).await;
    let genesis = &network.dealt.genesis;
    let verifier = Verifier::new(genesis.network_id(), &genesis.group_key).expect("a group key");
    assert_eq!(told["groupKey"], json!(genesis.group_key));

    let signed = fixture::signed(0, 0, 3);
    result(&node, "lockstep_sendBundle", json!([signed])).await;
    let id = signed.bundle.id();
    let status = result(&node, "lockstep_waitBundle", json!([id, 30_000])).await;
    assert_eq!(status["state"], "ordered");
    assert_eq!(status["legs"].as_array().expect("legs").len(), 2);
    let height = status["height"].as_u64().expect("a height");
    order(&node, 0, 1).await;
    result(&node, "lockstep_cancelBundle", json!([fixture::cancel(0, 5, 6)])).await;
    reached(&node, height + 3).await;
    result(&node, "lockstep_getBundle", json!([id])).await;
    let pending = fixture::bundle(1, 1_000, 0);
    let far = call(node.rpc_address(), "lockstep_getBundle", json!([pending.id()])).await;
    assert_eq!(far["error"]["data"]["reason"], "unknown_bundle");

    for params in [json!([]), json!(["latest"]), json!([null]), json!([height])] {
        let header: FinalHeader =
            serde_json::from_value(result(&node, "lockstep_getHeader", params).await).expect("a header");
        verifier.verify(&header.header, &header.finality).expect("final");
        assert_eq!(header.digest, header.header.digest());
    }

    for rollup in [fixture::ROLLUP_A, fixture::ROLLUP_B] {
        let mut follower = LaneFollower::from_genesis(verifier.clone(), rollup);
        let mut next = Height(1);
        let mut items = 0;
        // One item a page, so that pages have to join.
        loop {
            let page = result(&node, "lockstep_getLane", json!([rollup, next, 1])).await;
            let page: LanePage = serde_json::from_value(page).expect("a page");
            for item in &page.items {
                follower.accept(item).expect("the next item");
                items += 1;
            }
            next = page.next_height;
            if let Some(tip) = page.tip {
                assert!(tip.entries.is_empty() && next == tip.header.height.next());
                if tip.header.height > follower.height() {
                    follower.accept(&tip).expect("nothing is missing");
                }
                assert_eq!(tip.leaf, follower.leaf());
                break;
            }
        }
        assert_eq!(items, 2);
    }

    let account = fixture::account(0);
    let proof = result(&node, "lockstep_getState", json!([{ "account": account }])).await;
    let proof: StateProof = serde_json::from_value(proof).expect("a proof");
    verifier.verify(&proof.header, &proof.finality).expect("final");
    let record = proof.record.expect("funded").0.try_into().expect("256 bytes");
    assert!(lockstep_consensus::proof::verify(&proof.header.state, &proof.key.0, Some(&record), &proof.proof.0));
    let record = AccountRecord::from_record(&record).expect("an account");
    let reports = result(&node, "lockstep_getReports", json!([account, 1])).await;
    let reports: Reports = serde_json::from_value(reports).expect("reports");
    reports.verify(&record).expect("they end in the proven record");
    let concluded =
        evidence::conclude(genesis.network_id(), &signed.bundle, proof.header.height, Some(&record), &reports);
    assert!(matches!(concluded, Ok(BundleState::Ordered { .. })), "{concluded:?}");
    for query in [json!("treasury"), json!({ "lane": fixture::ROLLUP_A }), json!({ "account": fixture::account(7) })] {
        result(&node, "lockstep_getState", json!([query])).await;
    }
    let stranger = json!([{ "account": { "ed25519": Hash32([9; 32]) } }]);
    let absent: StateProof =
        serde_json::from_value(result(&node, "lockstep_getState", stranger).await).expect("a proof");
    assert!(absent.record.is_none());
    assert!(lockstep_consensus::proof::verify(&absent.header.state, &absent.key.0, None, &absent.proof.0));

    for method in ["lockstep_getLimits", "lockstep_getFees", "lockstep_getRollups", "rpc.discover"] {
        result(&node, method, json!([])).await;
    }
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_move_is_told_before_anything_does() {
    let network = TestNetwork::deal_settling(1);
    let node = network.start(0).await;
    reached(&node, 1).await;
    let corridors = result(&node, "lockstep_getCorridors", json!([])).await;
    assert_eq!((&corridors[0]["cap"], &corridors[0]["underWay"]), (&json!("500"), &json!("0")));
    let status = result(&node, "lockstep_getRollupStatus", json!([fixture::ROLLUP_A])).await;
    assert_eq!((&status["healthy"], &status["decisionSequence"]), (&json!(false), &json!(0)), "no head was seen yet");
    let page = result(&node, "lockstep_getUnsettled", json!([fixture::ROLLUP_A])).await;
    assert_eq!((&page["settlements"], &page["next"]), (&json!([]), &Value::Null));
    let page = result(&node, "lockstep_getDecisions", json!([fixture::ROLLUP_A, 1])).await;
    assert_eq!((&page["intents"], &page["item"]), (&json!([]), &Value::Null));
    let leaf = node.index().lane(fixture::ROLLUP_A).expect("a lane").leaf;
    assert_eq!(page["range"]["chain"], json!(leaf.decisions), "an empty page says from where to go on");
    // Whoever waits for what is on its way is answered at the end of the time.
    let begun = Instant::now();
    let answer = call(node.rpc_address(), "lockstep_waitSettlement", json!([Hash32([5; 32]), 0, 300])).await;
    assert_eq!(answer["error"]["data"]["reason"], "unknown_settlement");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_has_exactly_the_methods_that_there_are() {
    let network = TestNetwork::deal(1);
    let node = network.start(0).await;
    let module = methods::register(node.service().clone()).expect("registered");
    let registered: BTreeSet<String> = module.method_names().map(str::to_owned).collect();
    let description = description();
    let methods = description["methods"].as_array().expect("methods");
    let names: BTreeSet<String> =
        methods.iter().map(|method| method["name"].as_str().expect("a name").into()).collect();
    assert_eq!(names, registered);
    assert_eq!(methods.len(), registered.len(), "a method is described twice");
    for method in methods {
        for error in method["errors"].as_array().expect("errors") {
            let path = error["$ref"].as_str().and_then(|path| path.strip_prefix('#')).expect("a reference");
            assert!(description.pointer(path).is_some(), "{path}");
        }
        if let Some(subscription) = method.get("x-subscription") {
            assert!(registered.contains(subscription["unsubscribe"].as_str().expect("a name")));
        }
    }
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_code_and_its_reason() {
    let network = TestNetwork::deal(1);
    let node = network.start(0).await;
    reached(&node, 2).await;
    let mut forged = fixture::signed(0, 0, 1);
    forged.bundle.tip += 1;
    let mut flipped = fixture::signed(0, 0, 1).to_wire();
    flipped[0] = 9;
    let id = Hash32([3; 32]);
    let account = fixture::account(0);
    let far = json!(node.index().height().0 + 10_000);
    let cases = [
        ("lockstep_sendBundle", json!([hex_of(&forged)]), codes::REFUSED, "bad_signature"),
        ("lockstep_sendBundle", json!([forged]), codes::REFUSED, "bad_signature"),
        ("lockstep_sendBundle", json!([hex::encode(&flipped)]), codes::REFUSED, "malformed"),
        ("lockstep_sendBundle", json!(["0x"]), codes::REFUSED, "malformed"),
        ("lockstep_sendBundle", json!(["zz"]), codes::REFUSED, "malformed"),
        ("lockstep_sendBundle", json!([{ "bundle": 1 }]), codes::REFUSED, "malformed"),
        ("lockstep_sendBundle", json!(["0x".to_owned() + &"00".repeat(300_000)]), codes::REFUSED, "malformed"),
        ("lockstep_sendBundle", json!([]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_sendBundle", json!([hex_of(&forged), 1]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_sendBundle", json!({ "bundle": hex_of(&forged) }), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_cancelBundle", json!(["0x00"]), codes::REFUSED, "malformed"),
        ("lockstep_cancelBundle", json!([hex_of(&fixture::cancel(0, 9, 1))]), codes::REFUSED, "bad_nonce_range"),
        ("lockstep_getBundle", json!([id]), codes::NOT_FOUND, "unknown_bundle"),
        ("lockstep_getBundle", json!(["0x12"]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_waitBundle", json!([id, 10]), codes::NOT_FOUND, "unknown_bundle"),
        ("lockstep_waitBundle", json!([id]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_waitBundle", json!([id, -1]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getHeader", json!([far]), codes::UNAVAILABLE, "ahead_of_tip"),
        ("lockstep_getHeader", json!([0]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getHeader", json!(["newest"]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getLane", json!([7, 1]), codes::NOT_FOUND, "unknown_rollup"),
        ("lockstep_getLane", json!([901, far]), codes::UNAVAILABLE, "ahead_of_tip"),
        ("lockstep_getLane", json!([901, 1, LANE_ITEMS_MAX + 1]), codes::LIMIT, "too_many"),
        ("lockstep_getLane", json!([901, 1, 0]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getLane", json!([901]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getState", json!([{ "lane": 7 }]), codes::NOT_FOUND, "unknown_rollup"),
        ("lockstep_getState", json!(["everything"]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getReports", json!([account, 1, REPORTS_MAX + 1]), codes::LIMIT, "too_many"),
        ("lockstep_getReports", json!(["me", 1]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getFees", json!([1]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getSettlement", json!([id]), codes::NOT_FOUND, "unknown_settlement"),
        ("lockstep_getSettlement", json!([]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_waitSettlement", json!([id, 1, 10]), codes::NOT_FOUND, "unknown_settlement"),
        ("lockstep_waitSettlement", json!([id, 10]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getUnsettled", json!([7]), codes::NOT_FOUND, "unknown_rollup"),
        ("lockstep_getUnsettled", json!([901, null, UNSETTLED_MAX + 1]), codes::LIMIT, "too_many"),
        ("lockstep_getUnsettled", json!([901, "0x12"]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getDecisions", json!([7, 1]), codes::NOT_FOUND, "unknown_rollup"),
        ("lockstep_getDecisions", json!([901, 1, 1_025]), codes::LIMIT, "too_many"),
        ("lockstep_getDecisions", json!([901, 1, 0]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getDecisions", json!([901]), codes::INVALID_PARAMS, "bad_request"),
        ("lockstep_getRollupStatus", json!([7]), codes::NOT_FOUND, "unknown_rollup"),
        ("lockstep_getCorridors", json!([901]), codes::INVALID_PARAMS, "bad_request"),
    ];
    for (method, params, code, reason) in cases {
        let answer = call(node.rpc_address(), method, params.clone()).await;
        let error = &answer["error"];
        assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(code), &json!(reason)), "{method} {answer}");
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 8), "{answer}");
    }
    let ahead = call(node.rpc_address(), "lockstep_getLane", json!([901, far])).await;
    assert!(ahead["error"]["data"]["tip"].is_u64(), "facts come with the reason: {ahead}");

    let (_, metrics) = get(node.rpc_address(), "/metrics").await;
    let refused = |reason: &str| {
        let line = format!("lockstep_pool_refused_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|found| found.strip_prefix(&line)).map(|count| count != "0")
    };
    assert_eq!((refused("bad_signature"), refused("pool_full")), (Some(true), Some(false)), "zeros are exported");
    assert!(metrics.contains("lockstep_rpc_unreadable_total{reason=\"malformed\"}"), "{metrics}");
    assert!(metrics.trim_end().ends_with("# EOF") && metrics.matches("# EOF").count() == 1);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_metric_is_there_and_every_metric_of_ours_is_documented() {
    let network = TestNetwork::deal(1);
    let mut config = network.config(0);
    let key = config.data.with_file_name("public.key");
    config.public = Some(crate::public::PublicConfig { key, ..Default::default() });
    let node = Node::start(&config).await.expect("started");
    reached(&node, 1).await;
    let (_, metrics) = get(node.rpc_address(), "/metrics").await;
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE lockstep_"));
    let series = |line: &str| match line.split_once(' ').expect("a name and a type") {
        (name, "counter") => format!("lockstep_{name}_total"),
        (name, _) => format!("lockstep_{name}"),
    };
    let exported: BTreeSet<String> = types.map(series).collect();
    let guide = include_str!("../../../docs/operating.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `lockstep_"));
    let rows: BTreeSet<&str> = rows.map(|line| line.split('`').next().expect("a name")).collect();
    let name = |row: &&str| format!("lockstep_{}", row.split('{').next().expect("a name"));
    let documented: BTreeSet<String> = rows.iter().map(name).collect();
    let undocumented: Vec<_> = exported.difference(&documented).collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
    // Only what is counted by its sender has nothing to show before the first.
    let missing = rows.iter().filter(|row| !exported.contains(&name(row)) && !row.contains("{validator}"));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_public_port_is_refused_and_disturbs_nobody() {
    let network = TestNetwork::deal(1);
    let node = network.start(0).await;
    reached(&node, 1).await;
    let address = node.rpc_address();
    for garbage in [&[0_u8; 1 << 12][..], b"\x16\x03\x01\x02\x00\x01\x00", b"GET", b"\xff\xfe\xfd\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let _ = stream.write_all(garbage).await;
    }
    for body in ["", "{", "[]", "[1]", "null", "{\"jsonrpc\":\"1.0\"}", "\u{0}\u{1}", &"[".repeat(100_000)] {
        let (_, answer) = post(address, body).await;
        assert!(answer.contains("error") || answer.is_empty(), "{body:.20}: {answer}");
    }
    let unknown = call(address, "lockstep_steal", json!([])).await;
    assert_eq!(unknown["error"]["code"], -32601);
    // By its length alone: not a byte of it is waited for.
    let head = "POST / HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-type: application/json";
    let (status, _) = http(address, format!("{head}\r\ncontent-length: {}\r\n\r\n", REQUEST_BYTES_MAX + 1)).await;
    assert_eq!(status, 413, "a request that is too long");
    let (status, _) = get(address, "/unknown").await;
    assert!((400..500).contains(&status));

    let mut socket = Socket::open(address).await;
    // A frame that no client may send: not masked.
    socket.0.write_all(&[0x81, 0x05, 1, 2, 3, 4, 5]).await.expect("sent");
    let mut socket = Socket::open(address).await;
    let wrong = socket.subscribe(1, "lockstep_subscribeLane", json!([7])).await;
    assert_eq!(wrong["error"]["data"]["reason"], "unknown_rollup", "{wrong}");
    let wrong = socket.subscribe(2, "lockstep_subscribeHeaders", json!([1_000_000])).await;
    assert_eq!(wrong["error"]["data"]["reason"], "ahead_of_tip", "{wrong}");
    order(&node, 0, 0).await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_order_and_has_a_bound() {
    let network = TestNetwork::deal(1);
    let node = network.start(0).await;
    reached(&node, 1).await;
    let request = |id: u64, method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let bundles: Vec<_> = (0..100).map(|nonce| fixture::signed(0, nonce, 0)).collect();
    let sends = bundles.iter().zip(0..).map(|(signed, id)| request(id, "lockstep_sendBundle", json!([hex_of(signed)])));
    let batch: Vec<Value> = sends.chain([json!(7), request(101, "lockstep_getFees", json!([]))]).collect();
    let (_, body) = post(node.rpc_address(), &json!(batch).to_string()).await;
    let answers: Vec<Value> = serde_json::from_str(&body).expect("a list");
    assert_eq!(answers.len(), 102);
    for (answer, signed) in answers.iter().zip(&bundles) {
        assert_eq!(answer["result"]["bundleId"], json!(signed.bundle.id()), "{answer}");
    }
    assert_eq!(answers[100]["error"]["code"], -32600);
    assert_eq!(answers[101]["id"], 101);
    for signed in &bundles {
        let status = node.service().outcomes.wait(signed.bundle.id(), PATIENCE).await.expect("known");
        assert!(matches!(status.state, BundleState::Ordered { .. }), "{status:?}");
    }
    let many: Vec<_> = (0..=u64::from(BATCH_MAX)).map(|id| request(id, "lockstep_getFees", json!([]))).collect();
    let (_, body) = post(node.rpc_address(), &json!(many).to_string()).await;
    let refused: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(refused["error"]["code"], -32010, "{refused}");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_told_the_past_and_then_the_present_without_a_gap() {
    let network = TestNetwork::deal(1);
    let node = network.start(0).await;
    reached(&node, 1).await;
    order(&node, 0, 0).await;
    let genesis = &network.dealt.genesis;
    let verifier = Verifier::new(genesis.network_id(), &genesis.group_key).expect("a group key");
    let mut lane = Socket::open(node.rpc_address()).await;
    let mut headers = Socket::open(node.rpc_address()).await;
    let subscribed = lane.subscribe(1, "lockstep_subscribeLane", json!([fixture::ROLLUP_A, 1])).await;
    assert!(subscribed["result"].is_u64() || subscribed["result"].is_string(), "{subscribed}");
    headers.subscribe(1, "lockstep_subscribeHeaders", json!([1])).await;
    let mut follower = LaneFollower::from_genesis(verifier.clone(), fixture::ROLLUP_A);
    for nonce in 1..4 {
        order(&node, 0, nonce).await;
    }
    while follower.leaf().sequence < 4 {
        let message = lane.receive().await;
        assert_eq!(message["method"], "lockstep_lane");
        let item: LaneItem = serde_json::from_value(message["params"]["result"].clone()).expect("an item");
        follower.accept(&item).expect("the next item");
    }
    let mut parent: Option<FinalHeader> = None;
    for height in 1..=follower.height().0 {
        let message = headers.receive().await;
        let header: FinalHeader = serde_json::from_value(message["params"]["result"].clone()).expect("a header");
        assert_eq!(header.header.height, Height(height));
        verifier.verify(&header.header, &header.finality).expect("final");
        assert!(parent.is_none_or(|parent| header.header.parent == parent.digest));
        parent = Some(header);
    }
    // A lane that is quiet is proven to be quiet.
    let quiet: LaneItem = loop {
        let item = serde_json::from_value(lane.receive().await["params"]["result"].clone()).expect("an item");
        follower.accept(&item).expect("the next item");
        if item.entries.is_empty() {
            break item;
        }
    };
    assert_eq!(quiet.leaf.sequence, 4);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_followed_from_its_order_to_the_finality_of_its_legs() {
    let network = TestNetwork::deal(1);
    let signed = fixture::signed(0, 0, 1);
    let chain: levels::tests::Shared = Default::default();
    let (rpc, _rollup) = levels::tests::serve(&chain).await;
    let mut config = network.config(0);
    config.rollups = vec![config::RollupConfig { id: fixture::ROLLUP_A, rpc, poll_ms: 50, posters: Vec::new() }];
    let node = Node::start(&config).await.expect("started");
    reached(&node, 1).await;
    let id = signed.bundle.id();
    let mut socket = Socket::open(node.rpc_address()).await;
    // Before it was sent: it may be on its way.
    socket.subscribe(1, "lockstep_subscribeBundle", json!([id])).await;
    result(&node, "lockstep_sendBundle", json!([hex_of(&signed)])).await;
    let mut told = async || loop {
        let status = socket.receive().await["params"]["result"].clone();
        check(&description(), &described("lockstep_subscribeBundle")["x-subscription"]["item"], &status)
            .expect("as described");
        if status["state"] == "ordered" {
            let leg = |place: usize| status["legs"][place]["level"].as_str().expect("a level").to_owned();
            break (leg(0), leg(1), status["legs"][0]["block"].clone());
        }
    };
    assert_eq!(told().await, ("ordered".into(), "ordered".into(), Value::Null));
    let transaction = levels::tests::hash_of(&signed.bundle.legs[0].transactions[0]);
    chain.lock().expect("whole").executed.insert(transaction, 5);
    assert_eq!(told().await, ("executed".into(), "ordered".into(), json!(5)));
    chain.lock().expect("whole").safe = Some(5);
    assert_eq!(told().await, ("safe".into(), "ordered".into(), json!(5)));
    chain.lock().expect("whole").finalized = Some(6);
    assert_eq!(told().await, ("final".into(), "ordered".into(), json!(5)));
    let status = result(&node, "lockstep_getBundle", json!([id])).await;
    assert_eq!((&status["legs"][0]["level"], &status["legs"][1]["level"]), (&json!("final"), &json!("ordered")));
    assert_eq!(result(&node, "lockstep_waitBundle", json!([id, 1])).await["legs"], status["legs"]);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_takes_nothing_is_cut_off_and_told_where_to_resume() {
    let network = TestNetwork::deal(1);
    let node = network.start(0).await;
    reached(&node, 30).await;
    let mut slow = Socket::open(node.rpc_address()).await;
    let subscriptions = u64::from(config::Rpc::default().max_subscriptions_per_connection);
    for id in 0..subscriptions {
        // All are sent before the first answer is read.
        slow.send(json!({ "jsonrpc": "2.0", "id": id, "method": "lockstep_subscribeHeaders", "params": [1] })).await;
    }
    let cut = async {
        while node.service().metrics.subscriptions.slow.get() == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.expect("the slow one is cut off");
    // Meanwhile everybody else is served.
    order(&node, 0, 0).await;
    let mut told = BTreeSet::new();
    let told_of = Instant::now();
    let error = loop {
        assert!(told_of.elapsed() < PATIENCE, "it is told that it was cut off");
        let message = slow.receive().await;
        if let Some(error) = message["params"].get("error") {
            break (message["params"]["subscription"].clone(), error.clone());
        }
        if let Some(height) = message["params"]["result"]["header"]["height"].as_u64() {
            told.insert((message["params"]["subscription"].to_string(), height));
        }
    };
    let (subscription, error) = error;
    let subscription = subscription.to_string();
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(codes::LIMIT), &json!("too_slow")), "{error}");
    let resume_from = error["data"]["resumeFrom"].as_u64().expect("a height");
    let last = told.iter().filter(|(of, _)| *of == subscription).map(|(_, height)| *height).max();
    assert_eq!(last.map_or(1, |last| last + 1), resume_from, "nothing between the last message and where to resume");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_are_told_apart() {
    let network = TestNetwork::deal(4);
    // One of four: alive, and of no use to anybody.
    let node = network.start(0).await;
    assert_eq!(get(node.rpc_address(), "/healthz").await.0, 200);
    let (status, body) = get(node.rpc_address(), "/readyz").await;
    assert_eq!(status, 503, "{body}");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&told["ready"], &told["detail"]), (&json!(false), &json!("no block is final yet")));
    for method in ["lockstep_getHeader", "lockstep_getState"] {
        let params = if method == "lockstep_getState" { json!(["treasury"]) } else { json!([]) };
        let answer = call(node.rpc_address(), method, params).await;
        assert_eq!(answer["error"]["data"]["reason"], "not_ready", "{answer}");
    }
    stop(node).await;
    let network = TestNetwork::deal(1);
    let node = network.start(0).await;
    // The first may have been made before anybody could ask.
    reached(&node, 3).await;
    let (status, body) = get(node.rpc_address(), "/readyz").await;
    assert_eq!(status, 200, "{body}");
    stop(node).await;
}

//! Kafka clusters made of real brokers on loopback.
//!
//! Each broker has two listeners: `PLAINTEXT` for the client under test, and `INTERNAL` for the other brokers and for
//! Java's tools, so that a proxy before the first one does not disturb brokers and tools.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::admin::Admin;
use super::jars::{self, Version};
use super::process::Watched;
use super::proxy::Proxy;

/// How long a server may take to start. It takes seconds on an idle machine; the rest is for a busy one.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What cluster to start.
#[derive(Clone, Debug)]
pub struct Options {
    version: Version,
    brokers: usize,
    properties: Vec<(String, String)>,
    proxied: bool,
    authorizer: bool,
    advertised: Option<String>,
    feature: Option<(&'static str, u16)>,
}

impl Options {
    /// One broker; every replication factor is 1.
    pub fn single(version: Version) -> Self {
        Self {
            version,
            brokers: 1,
            properties: Vec::new(),
            proxied: false,
            authorizer: false,
            advertised: None,
            feature: None,
        }
    }

    /// Three brokers; replication factor 3, `min.insync.replicas` 2.
    pub fn three(version: Version) -> Self {
        Self { brokers: 3, ..Self::single(version) }
    }

    /// Sets a broker property; it wins over the harness's own.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The broker keeps its leaderships although the machine stands still for a while. The cost: a killed broker cannot
    /// start again for the same time.
    fn never_killed(self) -> Self {
        self.property("broker.session.timeout.ms", "30000")
    }

    /// A topic is created when a client asks for it.
    pub fn auto_create(self) -> Self {
        self.property("auto.create.topics.enable", "true")
    }

    /// Puts a proxy before each broker's client listener; the brokers advertise the proxies.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Makes the only broker advertise this address (`host:port`) instead of its own; the caller forwards its
    /// connections.
    pub fn advertised(mut self, address: &str) -> Self {
        assert_eq!(self.brokers, 1);
        self.advertised = Some(address.to_owned());
        self
    }

    /// Formats the cluster with another level of a feature than its version has, such as `transaction.version`.
    pub fn feature(mut self, name: &'static str, level: u16) -> Self {
        self.feature = Some((name, level));
        self
    }

    /// Installs Kafka's authorizer: everything is allowed until a resource has an access control list.
    pub fn authorizer(mut self) -> Self {
        self.authorizer = true;
        self
    }
}

/// A running cluster; dropping it kills its processes and removes its files.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    directory: RunDirectory,
    zookeeper: Option<(Port, Mutex<Option<Watched>>)>,
    nodes: Vec<Node>,
    admin: OnceLock<Admin>,
    _permit: Option<Permit>,
}

#[derive(Debug)]
struct Node {
    id: i32,
    client: Port,
    internal: Port,
    controller: Port,
    proxy: Option<Proxy>,
    process: Mutex<Option<Watched>>,
    starts: AtomicUsize,
}

/// One broker of 4.3.1 that the tests of one binary share. Topics need names of their own.
pub fn shared_single() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::shared(&Options::single(Version::V4_3).never_killed()))
}

/// One broker of 4.3.1 without KIP-890 (transactions V2) that the tests of one binary share. Topics need names of their
/// own.
pub fn shared_single_v1() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let options = || Options::single(Version::V4_3).feature("transaction.version", 0).never_killed();
    CLUSTER.get_or_init(|| Cluster::shared(&options()))
}

/// Three brokers of 4.3.1 that the tests of one binary share. A test that kills or stops brokers starts its own.
pub fn shared_three() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::shared(&Options::three(Version::V4_3)))
}

/// Three brokers of 4.3.1 behind proxies that the tests of one binary share, one test after the other: each test leaves
/// the cluster as it found it.
pub fn shared_three_proxied() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    // A killed broker's leaderships move when its session is over, and the tests that kill wait for that.
    let options = || Options::three(Version::V4_3).proxied().property("broker.session.timeout.ms", "4000");
    CLUSTER.get_or_init(|| Cluster::shared(&options()))
}

impl Cluster {
    /// Starts a cluster for the caller alone.
    ///
    /// Blocks: until every broker serves, and before that until no other thread of this process has a cluster of its
    /// own, because the machine may be small. One thread may have several.
    pub fn start(options: Options) -> Self {
        let permit = Permit::acquire();
        Self::launch(&options, Some(permit))
    }

    /// Starts a cluster that the tests of one file share until the process ends. It needs no permit: permits limit only
    /// the clusters that a test has for itself.
    pub fn shared(options: &Options) -> Self {
        Self::launch(options, None)
    }

    fn launch(options: &Options, permit: Option<Permit>) -> Self {
        hold_machine_lock();
        let mut cluster = Self::prepare(options, permit);
        for attempt in 1.. {
            match cluster.try_start() {
                Ok(()) => break,
                // The reserved ports should make this impossible, but not every kernel respects the reservation.
                Err(log) if attempt < 3 && log.contains("Address already in use") => {
                    let permit = cluster._permit.take();
                    drop(cluster);
                    cluster = Self::prepare(options, permit);
                }
                Err(log) => panic!("Kafka {} did not start; its log ends:\n{log}", options.version.number()),
            }
        }
        cluster
    }

    fn prepare(options: &Options, permit: Option<Permit>) -> Self {
        let directory = RunDirectory::create();
        write_log_settings(&directory.path);
        let zookeeper = options.version.uses_zookeeper().then(|| (Port::reserve(), Mutex::new(None)));
        let nodes =
            (1..=options.brokers).map(|id| Node::prepare(i32::try_from(id).unwrap(), options.proxied)).collect();
        let cluster =
            Self { options: options.clone(), directory, zookeeper, nodes, admin: OnceLock::new(), _permit: permit };
        for node in &cluster.nodes {
            fs::write(cluster.file(&format!("broker-{}.properties", node.id)), cluster.properties(node)).unwrap();
        }
        cluster
    }

    fn try_start(&self) -> Result<(), String> {
        if self.zookeeper.is_some() {
            self.start_zookeeper()?;
        } else {
            self.format();
        }
        for index in 0..self.nodes.len() {
            self.spawn(index);
        }
        (0..self.nodes.len()).try_for_each(|index| self.try_wait_ready(index))
    }

    /// The version of the brokers.
    pub fn version(&self) -> Version {
        self.options.version
    }

    /// The number of brokers.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The addresses for `bootstrap.servers` of the client under test, in the order of the nodes.
    pub fn bootstrap(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.advertised().to_string()).collect()
    }

    /// The addresses of the listeners for Java's tools, comma separated.
    pub fn internal_bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.internal.address.to_string()).collect();
        addresses.join(",")
    }

    /// The proxy before a broker's client listener; [`Options::proxied`] is what puts it there.
    pub fn proxy(&self, node: usize) -> &Proxy {
        self.nodes[node].proxy.as_ref().expect("the cluster was started with proxies")
    }

    /// The resident Java helper of this cluster, started at the first use.
    pub fn admin(&self) -> &Admin {
        self.admin.get_or_init(|| Admin::start(self.version(), &self.internal_bootstrap(), &self.directory.path))
    }

    /// The directory of this cluster's files; it goes away with the cluster.
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// The position (from 0) of the broker with this id.
    pub fn node_of(&self, broker_id: i32) -> usize {
        self.nodes.iter().position(|node| node.id == broker_id).expect("no broker has this id")
    }

    /// The id of the broker at this position (from 0).
    pub fn broker_id(&self, node: usize) -> i32 {
        self.nodes[node].id
    }

    /// `log.dirs` of a broker: a directory per topic-partition.
    pub fn log_directory(&self, node: usize) -> PathBuf {
        self.file(&format!("data-{}", self.nodes[node].id))
    }

    /// What the broker has printed since its last start.
    pub fn log(&self, node: usize) -> String {
        fs::read_to_string(self.log_file(&self.nodes[node])).unwrap_or_default()
    }

    /// The process id of a broker, if it runs.
    pub fn pid(&self, node: usize) -> Option<u32> {
        lock(&self.nodes[node].process).as_ref().map(Watched::pid)
    }

    /// Kills a broker (SIGKILL) and waits until it is gone.
    pub fn kill(&self, node: usize) {
        if let Some(mut process) = lock(&self.nodes[node].process).take() {
            process.kill();
        }
    }

    /// Stops a broker (SIGSTOP), all its threads: its connections stay open, but it reads and writes nothing.
    pub fn stop(&self, node: usize) {
        let mut process = lock(&self.nodes[node].process);
        let process = process.as_mut().expect("the broker runs");
        process.signal("STOP");
        // A thread on another processor runs on for a moment, and may still answer.
        super::wait_for("the broker to stop", START_LIMIT, || process.is_stopped().then_some(()));
    }

    /// Continues a stopped broker (SIGCONT).
    pub fn cont(&self, node: usize) {
        lock(&self.nodes[node].process).as_mut().expect("the broker runs").signal("CONT");
    }

    /// Ends a broker in order (SIGTERM: it hands its leaderships over first) and waits until it is gone.
    pub fn terminate(&self, node: usize) -> ExitStatus {
        let mut process = lock(&self.nodes[node].process).take().expect("the broker runs");
        process.signal("TERM");
        process.wait(START_LIMIT).expect("a broker ends after SIGTERM")
    }

    /// Starts a broker that has ended, on the same ports and data, without waiting for it; [`Self::wait_ready`] does.
    pub fn spawn(&self, index: usize) {
        let node = &self.nodes[index];
        let mut process = lock(&node.process);
        assert!(process.as_mut().is_none_or(|process| process.ended().is_some()), "the broker still runs");
        node.starts.fetch_add(1, Ordering::Relaxed);
        let properties = self.file(&format!("broker-{}.properties", node.id));
        *process = Some(self.java("-Xmx400m", "kafka.Kafka", &[properties], &self.log_file(node)));
    }

    /// Starts a broker that has ended and waits until it serves.
    pub fn restart(&self, node: usize) {
        self.kill(node);
        self.spawn(node);
        self.wait_ready(node);
    }

    /// Waits until a broker says that it has started and accepts connections.
    pub fn wait_ready(&self, node: usize) {
        let begin = Instant::now();
        while let Err(log) = self.try_wait_ready(node) {
            // ZooKeeper keeps a killed broker's entry until its session is over, and a new broker cannot start while
            // the entry is there.
            let last_words = self.log(node);
            let too_early = last_words.contains("KeeperException$NodeExistsException")
                || last_words.contains("A broker is already registered on the path");
            assert!(
                too_early && begin.elapsed() < START_LIMIT,
                "broker {} did not start; its log ends:\n{log}",
                self.nodes[node].id
            );
            self.spawn(node);
        }
    }

    fn try_wait_ready(&self, index: usize) -> Result<(), String> {
        let node = &self.nodes[index];
        let started: fn(&str) -> bool = if self.options.version.uses_zookeeper() {
            |line| line.contains("kafka.server.KafkaServer") && line.contains(" started")
        } else {
            |line| line.contains("Kafka Server started")
        };
        let log = self.log_file(node);
        wait_started(&node.process, &log, node.client.address, |text| text.lines().any(started))
    }

    fn start_zookeeper(&self) -> Result<(), String> {
        let (port, process) = self.zookeeper.as_ref().unwrap();
        let settings = self.file("zookeeper.properties");
        let text = format!(
            "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\ntickTime=500\n",
            self.file("zookeeper").display(),
            port.address.port(),
        );
        fs::write(&settings, text).unwrap();
        let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
        let log = self.file("zookeeper.log");
        *lock(process) = Some(self.java("-Xmx128m", main, &[settings], &log));
        wait_started(process, &log, port.address, |_| true)
    }

    /// Prepares the data directories for KRaft. Kafka's tool takes seconds, so its result is kept for the version and
    /// feature, and each node gets a copy with a cluster id, node id and directory id of its own.
    fn format(&self) {
        let feature = self.options.feature.map(|(name, level)| format!("{name}={level}"));
        let name = [self.version().number()].into_iter().chain(feature.as_deref()).collect::<Vec<_>>().join("-");
        let template = super::home().join("formatted").join(name);
        // Two clusters of the same kind may be started at the same time.
        static FORMATTING: Mutex<()> = Mutex::new(());
        let formatting = lock(&FORMATTING);
        if !template.is_dir() {
            let log = self.file("format.log");
            let properties = self.file(&format!("broker-{}.properties", self.nodes[0].id));
            let properties = properties.to_str().unwrap();
            let mut arguments = vec!["format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c", properties];
            arguments.extend(feature.iter().flat_map(|feature| ["--feature", feature]));
            let mut tool = self.java("-Xmx128m", "kafka.tools.StorageTool", &arguments, &log);
            let status = tool.wait(START_LIMIT).expect("formatting ends in time");
            let text = fs::read_to_string(&log).unwrap_or_default();
            assert!(status.success(), "formatting failed: {text}");
            fs::create_dir_all(template.parent().unwrap()).unwrap();
            fs::rename(self.log_directory(0), &template).unwrap();
        }
        drop(formatting);
        let cluster_id = random_uuid();
        for (index, node) in self.nodes.iter().enumerate() {
            let directory = self.log_directory(index);
            copy_tree(&template, &directory);
            let text =
                format!("version=1\ncluster.id={cluster_id}\nnode.id={}\ndirectory.id={}\n", node.id, random_uuid(),);
            fs::write(directory.join("meta.properties"), text).unwrap();
        }
    }

    fn properties(&self, node: &Node) -> String {
        let replicas = self.nodes.len().to_string();
        let min_isr = self.nodes.len().div_ceil(2).to_string();
        // A killed broker can start again only when its session is over, so a single one's is shorter.
        let session_timeout = if self.nodes.len() == 1 { "3000" } else { "6000" };
        let internal = node.internal.address;
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            all.insert(name.to_owned(), value.to_owned());
        };
        let mut listeners = format!("PLAINTEXT://{},INTERNAL://{internal}", node.client.address);
        let mut map = "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT".to_owned();
        if let Some((port, _)) = &self.zookeeper {
            set("broker.id", &node.id.to_string());
            set("zookeeper.connect", &port.address.to_string());
            set("zookeeper.session.timeout.ms", session_timeout);
            set("zookeeper.connection.timeout.ms", "60000");
        } else {
            let voters: Vec<String> =
                self.nodes.iter().map(|node| format!("{}@{}", node.id, node.controller.address)).collect();
            set("node.id", &node.id.to_string());
            set("process.roles", "broker,controller");
            set("controller.quorum.voters", &voters.join(","));
            set("controller.listener.names", "CONTROLLER");
            set("broker.session.timeout.ms", session_timeout);
            set("broker.heartbeat.interval.ms", "500");
            write!(listeners, ",CONTROLLER://{}", node.controller.address).unwrap();
            map.push_str(",CONTROLLER:PLAINTEXT");
        }
        set("listeners", &listeners);
        let advertised = self.options.advertised.clone().unwrap_or_else(|| node.advertised().to_string());
        set("advertised.listeners", &format!("PLAINTEXT://{advertised},INTERNAL://{internal}"));
        set("listener.security.protocol.map", &map);
        set("inter.broker.listener.name", "INTERNAL");
        set("log.dirs", self.file(&format!("data-{}", node.id)).to_str().unwrap());
        set("broker.rack", &format!("r{}", node.id));
        set("num.network.threads", "2");
        set("num.io.threads", "4");
        set("offsets.topic.replication.factor", &replicas);
        set("offsets.topic.num.partitions", "3");
        set("transaction.state.log.replication.factor", &replicas);
        set("transaction.state.log.min.isr", &min_isr);
        set("transaction.state.log.num.partitions", "3");
        if self.options.version == Version::V4_3 {
            set("share.coordinator.state.topic.replication.factor", &replicas);
            set("share.coordinator.state.topic.min.isr", &min_isr);
        }
        set("default.replication.factor", &replicas);
        set("min.insync.replicas", &min_isr);
        set("group.initial.rebalance.delay.ms", "0");
        // Records with timestamps of years ago stay, however long the broker has run.
        set("log.retention.ms", "-1");
        set("auto.create.topics.enable", "false");
        set("replica.lag.time.max.ms", "6000");
        if self.options.authorizer {
            let class = if self.zookeeper.is_none() {
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
            } else {
                "kafka.security.auth.SimpleAclAuthorizer"
            };
            set("authorizer.class.name", class);
            set("super.users", "User:admin");
            set("allow.everyone.if.no.acl.found", "true");
        }
        for (name, value) in &self.options.properties {
            set(name, value);
        }
        all.iter().fold(String::new(), |text, (name, value)| text + name + "=" + value + "\n")
    }

    fn java<S: AsRef<std::ffi::OsStr>>(&self, memory: &str, main: &str, arguments: &[S], log: &Path) -> Watched {
        let class_path = jars::class_path(self.options.version);
        let mut all: Vec<std::ffi::OsString> = vec![memory.into()];
        all.extend(["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp", &class_path].map(Into::into));
        all.extend(logging(&self.directory.path));
        all.push(main.into());
        all.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        Watched::start("java", all, log, log)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path.join(name)
    }

    fn log_file(&self, node: &Node) -> PathBuf {
        self.file(&format!("broker-{}.{}.log", node.id, node.starts.load(Ordering::Relaxed)))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All signals are sent first, so that the processes end at the same time.
        for node in &self.nodes {
            if let Some(process) = lock(&node.process).as_mut() {
                process.signal("KILL");
            }
        }
        if std::thread::panicking() {
            for node in 0..self.nodes.len() {
                eprintln!("the log of broker {} ends:\n{}", self.nodes[node].id, tail(&self.log(node)));
            }
        }
        drop(self.admin.take());
        for node in &self.nodes {
            drop(lock(&node.process).take());
        }
        if let Some((_, process)) = &self.zookeeper {
            drop(lock(process).take());
        }
    }
}

impl Node {
    fn prepare(id: i32, proxied: bool) -> Self {
        let client = Port::reserve();
        Self {
            id,
            proxy: proxied.then(|| Proxy::start(client.address)),
            client,
            internal: Port::reserve(),
            controller: Port::reserve(),
            process: Mutex::new(None),
            starts: AtomicUsize::new(0),
        }
    }

    /// Where clients reach this broker.
    fn advertised(&self) -> SocketAddr {
        self.proxy.as_ref().map_or(self.client.address, Proxy::address)
    }
}

/// Waits until `started` finds the server's report in its log and its port accepts connections. The error is the end of
/// the log.
fn wait_started(
    process: &Mutex<Option<Watched>>,
    log: &Path,
    address: SocketAddr,
    started: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        // Checked before the log is read, so that the log includes the last lines of a server that has ended.
        let ended = lock(process).as_mut().is_none_or(|process| process.ended().is_some());
        let text = fs::read_to_string(log).unwrap_or_default();
        if !ended && started(&text) && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return Ok(());
        }
        if ended || Instant::now() > deadline {
            return Err(tail(&text));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// JVM options for each logging library that some version uses; a version ignores those of the others.
pub fn logging(directory: &Path) -> [std::ffi::OsString; 6] {
    [
        format!("-Dlog4j2.configurationFile={}/log4j2.properties", directory.display()).into(),
        format!("-Dlog4j.configuration=file:{}/log4j.properties", directory.display()).into(),
        "-Dzookeeper.jmx.log4j.disable=true".into(),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".into(),
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaServer=info".into(),
        "-Dorg.slf4j.simpleLogger.log.org.apache.zookeeper.server.NIOServerCnxn=error".into(),
    ]
}

fn write_log_settings(directory: &Path) {
    let log4j2 = "rootLogger.level=WARN\n\
        rootLogger.appenderRef.out.ref=OUT\n\
        appender.out.type=Console\n\
        appender.out.name=OUT\n\
        appender.out.target=SYSTEM_ERR\n\
        appender.out.layout.type=PatternLayout\n\
        appender.out.layout.pattern=%d %p %m (%c)%n\n\
        logger.server.name=kafka.server\n\
        logger.server.level=INFO\n";
    let log4j = "log4j.rootLogger=WARN, OUT\n\
        log4j.appender.OUT=org.apache.log4j.ConsoleAppender\n\
        log4j.appender.OUT.target=System.err\n\
        log4j.appender.OUT.layout=org.apache.log4j.PatternLayout\n\
        log4j.appender.OUT.layout.ConversionPattern=%d %p %m (%c)%n\n\
        log4j.logger.kafka.server=INFO\n";
    fs::write(directory.join("log4j2.properties"), log4j2).unwrap();
    fs::write(directory.join("log4j.properties"), log4j).unwrap();
}

/// A loopback port that stays reserved while a server uses it: a socket is bound to it and never listens. With
/// `SO_REUSEADDR` on both sides the server may still bind and listen, and the kernel hands the port to nobody else.
#[derive(Debug)]
pub struct Port {
    pub address: SocketAddr,
    _reservation: Socket,
}

impl Port {
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, _reservation: socket }
    }
}

/// `target/real-servers/run/<pid>-<n>`, removed when dropped. Directories of ended processes are removed, too.
#[derive(Debug)]
pub struct RunDirectory {
    pub path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    pub fn create() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let all = super::home().join("run");
        fs::create_dir_all(&all).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            for entry in fs::read_dir(&all).unwrap().flatten() {
                // The owner holds this lock for as long as it lives, so getting it means that the owner is gone.
                let free = File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
                if free {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
        let path = all.join(format!("{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let lock = File::create(path.join("lock")).unwrap();
        lock.lock().unwrap();
        Self { path, _lock: lock }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Set for a child of a test process, which holds the lock already.
pub const LOCK_HELD: &str = "REAL_SERVERS_LOCK_HELD";

/// One test process at a time runs servers. The lock is held until the process ends, because the shared clusters are.
pub fn hold_machine_lock() {
    static HELD: OnceLock<Option<File>> = OnceLock::new();
    HELD.get_or_init(|| {
        if std::env::var_os(LOCK_HELD).is_some() {
            return None;
        }
        fs::create_dir_all(super::home()).unwrap();
        let file = File::create(super::home().join("lock")).unwrap();
        if file.try_lock().is_err() {
            eprintln!("waiting for another test process that runs Kafka servers");
            file.lock().unwrap();
        }
        Some(file)
    });
}

/// The right to have clusters of one's own; one thread at a time has it.
#[derive(Debug)]
struct Permit;

static OWNER: Mutex<Option<(ThreadId, usize)>> = Mutex::new(None);
static OWNER_GONE: Condvar = Condvar::new();

impl Permit {
    fn acquire() -> Self {
        let this = std::thread::current().id();
        let mut owner = lock(&OWNER);
        loop {
            match &mut *owner {
                None => *owner = Some((this, 1)),
                Some((thread, count)) if *thread == this => *count += 1,
                Some(_) => {
                    owner = OWNER_GONE.wait(owner).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            }
            return Self;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut owner = lock(&OWNER);
        if let Some((_, count)) = &mut *owner {
            *count -= 1;
            if *count == 0 {
                *owner = None;
                OWNER_GONE.notify_one();
            }
        }
    }
}

/// A test that failed while it held a lock must not fail the others.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// 16 random bytes in unpadded URL-safe base64, as Kafka writes its ids.
fn random_uuid() -> String {
    use std::hash::{BuildHasher, RandomState};
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from(RandomState::new().hash_one(0_u8)) << 64 | u128::from(RandomState::new().hash_one(1_u8));
    // 22 digits of 6 bits hold 132 bits; the last digit's low four bits are padding and must be 0.
    let digits = (0..22).map(|digit| {
        let index = if digit == 21 { (bits & 0b11) << 4 } else { bits >> (122 - 6 * digit) & 0b11_1111 };
        char::from(ALPHABET[usize::try_from(index).unwrap()])
    });
    let text: String = digits.collect();
    // Kafka's command line would take a leading dash for an option, and Kafka itself never makes such an id.
    text.strip_prefix('-').map_or(text.clone(), |rest| format!("A{rest}"))
}

//! The servers that a run starts itself.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The sink, as a process that ends with this one.
pub(crate) struct Sink {
    process: Child,
    pub(crate) address: String,
}

impl Sink {
    pub(crate) fn start(program: &Path, delay_ms: u32) -> Self {
        let mut process = Command::new(program)
            .args(["--delay-ms", &delay_ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().to_owned() }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// One node of Kafka, broker and controller, from the jars in a folder. It is killed in the end, and its data removed.
pub(crate) struct Kafka {
    process: Child,
    data: std::path::PathBuf,
    pub(crate) address: String,
}

/// Sixteen bytes in URL-safe base64.
const CLUSTER_ID: &str = "cGVlcnMtY2x1c3Rlci0wMQ";
const PATIENCE: Duration = Duration::from_secs(60);

impl Kafka {
    pub(crate) fn start(libs: &Path, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let (port, controller) = (free_port(), free_port());
        let (settings, logging) = (folder.join("server.properties"), folder.join("log4j2.properties"));
        let data = folder.join("data");
        let _ = fs::remove_dir_all(&data);
        fs::write(
            &settings,
            format!(
                "process.roles=broker,controller\nnode.id=1\n\
                 controller.quorum.voters=1@127.0.0.1:{controller}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
                 controller.listener.names=CONTROLLER\n\
                 listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
                 log.dirs={}\n\
                 offsets.topic.replication.factor=1\n\
                 transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
                 num.network.threads=2\nnum.io.threads=4\n\
                 auto.create.topics.enable=false\n\
                 file.delete.delay.ms=100\nlog.segment.delete.delay.ms=100\n",
                data.display()
            ),
        )
        .unwrap();
        fs::write(
            &logging,
            "rootLogger.level=WARN\nrootLogger.appenderRef.out.ref=OUT\n\
             appender.out.type=Console\nappender.out.name=OUT\nappender.out.layout.type=PatternLayout\n\
             appender.out.layout.pattern=%d %p %c: %m%n\n",
        )
        .unwrap();
        let java = || {
            let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("server.log")).unwrap();
            let mut command = Command::new("java");
            command
                .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
                .args(["-Xmx1g", "-cp"])
                .arg(format!("{}/*", libs.display()))
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log);
            command
        };
        let format =
            java().args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(&settings).status().unwrap();
        assert!(format.success(), "the storage cannot be formatted; see server.log in {}", folder.display());
        let process = java().arg("kafka.Kafka").arg(&settings).spawn().unwrap();
        let kafka = Self { process, data, address: format!("127.0.0.1:{port}") };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(&kafka.address).is_err() {
            assert!(Instant::now() < deadline, "Kafka does not listen; see server.log in {}", folder.display());
            thread::sleep(Duration::from_millis(100));
        }
        // The port opens before the broker has registered.
        thread::sleep(Duration::from_secs(3));
        kafka
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

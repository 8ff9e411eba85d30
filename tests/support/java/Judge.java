import java.io.*;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Java's admin client and consumer behind a line protocol, because each of Kafka's own tools costs a JVM start.
 * Usage: Judge BOOTSTRAP PORT. Connects to 127.0.0.1:PORT and answers each line (fields separated by tabs) with one
 * line: "ok", fields; or "error" and the reason. Ends at end of file. Works with the clients of 3.9 and of 4.3.
 */
public class Judge {
    private static final int LIMIT_MS = 45_000;
    private static final int REQUEST_MS = 10_000;

    private final String bootstrap;
    private final Admin admin;
    /** Topics made here: a broker that does not know one has not heard of it yet. */
    private final Set<String> made = new HashSet<>();

    private Judge(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = Admin.create(Map.of(
            "bootstrap.servers", bootstrap,
            "request.timeout.ms", REQUEST_MS,
            "default.api.timeout.ms", LIMIT_MS,
            "reconnect.backoff.max.ms", 500));
    }

    public static void main(String[] args) throws Exception {
        Judge judge = new Judge(args[0]);
        try (Socket socket = new Socket("127.0.0.1", Integer.parseInt(args[1]))) {
            socket.setTcpNoDelay(true);
            BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
            OutputStream out = socket.getOutputStream();
            for (String line; (line = in.readLine()) != null; ) {
                String answer;
                try {
                    answer = "ok\t" + judge.patiently(line.split("\t", -1));
                } catch (Throwable thrown) {
                    Throwable cause = cause(thrown);
                    thrown.printStackTrace();
                    answer = "error\t" + cause.toString().replaceAll("[\r\n\t]+", " ");
                }
                out.write((answer + "\n").getBytes(StandardCharsets.UTF_8));
                out.flush();
            }
        }
        Runtime.getRuntime().halt(0);
    }

    private static Throwable cause(Throwable thrown) {
        return thrown instanceof java.util.concurrent.ExecutionException ? thrown.getCause() : thrown;
    }

    private String patiently(String[] f) throws Exception {
        long deadline = System.nanoTime() + LIMIT_MS * 1_000_000L;
        while (true) {
            try {
                return run(f);
            } catch (Exception thrown) {
                boolean unheard = cause(thrown) instanceof org.apache.kafka.common.errors.UnknownTopicOrPartitionException
                    && Arrays.stream(f).anyMatch(made::contains);
                if (!unheard || System.nanoTime() > deadline) {
                    throw thrown;
                }
                Thread.sleep(20);
            }
        }
    }

    /** A repetition finds done what the request did whose answer took too long. */
    private void once(KafkaFuture<Void> done, Class<? extends Exception> repeated) throws Exception {
        long begin = System.nanoTime();
        try {
            done.get();
        } catch (java.util.concurrent.ExecutionException thrown) {
            boolean slow = System.nanoTime() - begin >= REQUEST_MS * 1_000_000L;
            if (!slow || !repeated.isInstance(thrown.getCause())) {
                throw thrown;
            }
        }
    }

    private String run(String[] f) throws Exception {
        switch (f[0]) {
            case "create": { // topic, partitions, replication factor, name=value...
                NewTopic topic = new NewTopic(f[1], Integer.parseInt(f[2]), Short.parseShort(f[3]));
                topic.configs(Arrays.stream(f).skip(4).collect(Collectors.toMap(s -> s.split("=", 2)[0], s -> s.split("=", 2)[1])));
                once(admin.createTopics(List.of(topic)).all(), org.apache.kafka.common.errors.TopicExistsException.class);
                made.add(f[1]);
                return "";
            }
            case "create-on": { // topic, "1,2,3" per partition: the replicas, the preferred leader first
                Map<Integer, List<Integer>> replicas = new HashMap<>();
                for (int i = 2; i < f.length; i++) {
                    replicas.put(i - 2, ids(f[i]));
                }
                once(admin.createTopics(List.of(new NewTopic(f[1], replicas))).all(),
                    org.apache.kafka.common.errors.TopicExistsException.class);
                made.add(f[1]);
                return "";
            }
            case "delete":
                once(admin.deleteTopics(List.of(f[1])).all(),
                    org.apache.kafka.common.errors.UnknownTopicOrPartitionException.class);
                made.remove(f[1]);
                return "";
            case "partitions": // topic, new total
                once(admin.createPartitions(Map.of(f[1], NewPartitions.increaseTo(Integer.parseInt(f[2])))).all(),
                    org.apache.kafka.common.errors.InvalidPartitionsException.class);
                return "";
            case "describe": // topic: per partition "leader;replicas;isr"
                return described(f[1]).stream()
                    .map(p -> (p.leader() == null ? -1 : p.leader().id()) + ";" + nodes(p.replicas()) + ";" + nodes(p.isr()))
                    .collect(Collectors.joining("\t"));
            case "coordinator": { // internal topic, transactional id or group: a broker's id
                List<org.apache.kafka.common.TopicPartitionInfo> all =
                    described(f[1]);
                Node leader = all.get(org.apache.kafka.common.utils.Utils.abs(f[2].hashCode()) % all.size()).leader();
                return String.valueOf(leader == null ? -1 : leader.id());
            }
            case "transaction": { // transactional id: state, epoch
                TransactionDescription found = admin.describeTransactions(List.of(f[1])).description(f[1]).get();
                return found.state() + "\t" + found.producerEpoch();
            }
            case "feature": { // name: level
                FinalizedVersionRange range = admin.describeFeatures().featureMetadata().get().finalizedFeatures().get(f[1]);
                return String.valueOf(range == null ? 0 : range.maxVersionLevel());
            }
            case "topics":
                return String.join("\t", admin.listTopics().names().get());
            case "config": { // topic|broker|client-default, name, key=value... ("key=" alone deletes)
                if (f[1].equals("client")) {
                    return quota(f);
                }
                ConfigResource.Type type = f[1].equals("topic") ? ConfigResource.Type.TOPIC : ConfigResource.Type.BROKER;
                List<AlterConfigOp> ops = new ArrayList<>();
                for (int i = 3; i < f.length; i++) {
                    String[] pair = f[i].split("=", 2);
                    ops.add(new AlterConfigOp(new ConfigEntry(pair[0], pair[1]),
                        pair[1].isEmpty() ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET));
                }
                admin.incrementalAlterConfigs(Map.of(new ConfigResource(type, f[2]), ops)).all().get();
                return "";
            }
            case "elect": { // topic: the preferred leaders
                long deadline = System.nanoTime() + LIMIT_MS * 1_000_000L;
                while (true) {
                    Map<TopicPartition, Optional<Throwable>> result =
                        admin.electLeaders(ElectionType.PREFERRED, partitions(f[1])).partitions().get();
                    boolean done = described(f[1]).stream()
                        .allMatch(p -> p.leader() != null && p.leader().id() == p.replicas().get(0).id());
                    if (done) {
                        return "";
                    }
                    if (System.nanoTime() > deadline) {
                        throw new IOException("the leaders are not the preferred ones: " + result);
                    }
                    Thread.sleep(20);
                }
            }
            case "reassign": { // topic, partition, "1,2,3"; returns once no reassignment of it is under way
                TopicPartition partition = new TopicPartition(f[1], Integer.parseInt(f[2]));
                admin.alterPartitionReassignments(
                    Map.of(partition, Optional.of(new NewPartitionReassignment(ids(f[3]))))).all().get();
                long deadline = System.nanoTime() + LIMIT_MS * 1_000_000L;
                while (!admin.listPartitionReassignments(Set.of(partition)).reassignments().get().isEmpty()) {
                    if (System.nanoTime() > deadline) {
                        throw new IOException("the reassignment is still under way");
                    }
                    Thread.sleep(20);
                }
                return "";
            }
            case "acl": { // add|delete, topic, principal, operation, allow|deny
                ResourcePattern resource = new ResourcePattern(ResourceType.TOPIC, f[2], PatternType.LITERAL);
                AccessControlEntry entry = new AccessControlEntry(f[3], "*", AclOperation.fromString(f[4]),
                    AclPermissionType.fromString(f[5]));
                AclBinding binding = new AclBinding(resource, entry);
                if (f[1].equals("add")) {
                    admin.createAcls(List.of(binding)).all().get();
                } else {
                    admin.deleteAcls(List.of(binding.toFilter())).all().get();
                }
                return "";
            }
            case "delete-records": // topic, partition, before offset
                admin.deleteRecords(Map.of(new TopicPartition(f[1], Integer.parseInt(f[2])),
                    RecordsToDelete.beforeOffset(Long.parseLong(f[3])))).all().get();
                return "";
            case "ends": // topic: the end offset of each partition
                try (Consumer<byte[], byte[]> consumer = consumer("read_uncommitted")) {
                    Map<TopicPartition, Long> ends = consumer.endOffsets(partitions(f[1]));
                    return new TreeMap<>(ends.entrySet().stream()
                        .collect(Collectors.toMap(e -> e.getKey().partition(), Map.Entry::getValue)))
                        .values().stream().map(String::valueOf).collect(Collectors.joining("\t"));
                }
            case "read": // file, isolation level, seconds, topics...
                return String.valueOf(read(f[1], f[2], Integer.parseInt(f[3]), Arrays.asList(f).subList(4, f.length)));
            default:
                throw new IllegalArgumentException("no such command: " + f[0]);
        }
    }

    private String quota(String[] f) throws Exception { // client, client id (empty: the default), key=value...
        var entity = new org.apache.kafka.common.quota.ClientQuotaEntity(
            Collections.singletonMap("client-id", f[2].isEmpty() ? null : f[2]));
        List<org.apache.kafka.common.quota.ClientQuotaAlteration.Op> ops = new ArrayList<>();
        for (int i = 3; i < f.length; i++) {
            String[] pair = f[i].split("=", 2);
            ops.add(new org.apache.kafka.common.quota.ClientQuotaAlteration.Op(
                pair[0], pair[1].isEmpty() ? null : Double.valueOf(pair[1])));
        }
        admin.alterClientQuotas(List.of(new org.apache.kafka.common.quota.ClientQuotaAlteration(entity, ops))).all().get();
        return "";
    }

    /** Writes all records from the beginning to the end as it is now; the layout is read in admin.rs. */
    private long read(String file, String isolation, int seconds, List<String> topics) throws Exception {
        long deadline = System.nanoTime() + seconds * 1_000_000_000L;
        long count = 0;
        try (Consumer<byte[], byte[]> consumer = consumer(isolation);
             DataOutputStream out = new DataOutputStream(new BufferedOutputStream(new FileOutputStream(file), 1 << 20))) {
            List<TopicPartition> assigned = new ArrayList<>();
            for (String topic : topics) {
                assigned.addAll(partitions(topic));
            }
            consumer.assign(assigned);
            consumer.seekToBeginning(assigned);
            Map<TopicPartition, Long> ends = consumer.endOffsets(assigned);
            Set<TopicPartition> open = new HashSet<>(assigned);
            while (true) {
                // A position moves over control records and compacted gaps, which no record would tell of.
                for (Iterator<TopicPartition> all = open.iterator(); all.hasNext(); ) {
                    TopicPartition partition = all.next();
                    if (consumer.position(partition) >= ends.get(partition)) {
                        consumer.pause(List.of(partition));
                        all.remove();
                    }
                }
                if (open.isEmpty()) {
                    return count;
                }
                if (System.nanoTime() > deadline) {
                    throw new IOException("not at the end of " + open + " after " + seconds + " s");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (record.offset() >= ends.get(new TopicPartition(record.topic(), record.partition()))) {
                        continue;
                    }
                    out.writeInt(topics.indexOf(record.topic()));
                    out.writeInt(record.partition());
                    out.writeLong(record.offset());
                    out.writeLong(record.timestamp());
                    out.writeInt(record.timestampType().id);
                    bytes(out, record.key());
                    bytes(out, record.value());
                    Header[] headers = record.headers().toArray();
                    out.writeInt(headers.length);
                    for (Header header : headers) {
                        bytes(out, header.key().getBytes(StandardCharsets.UTF_8));
                        bytes(out, header.value());
                    }
                    count++;
                }
            }
        }
    }

    private Consumer<byte[], byte[]> consumer(String isolation) {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap,
            "isolation.level", isolation,
            "enable.auto.commit", false,
            "auto.offset.reset", "earliest",
            "max.poll.records", 10_000,
            "fetch.max.bytes", 32 << 20,
            "max.partition.fetch.bytes", 8 << 20,
            "check.crcs", true,
            "default.api.timeout.ms", LIMIT_MS);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private List<org.apache.kafka.common.TopicPartitionInfo> described(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
    }

    private Set<TopicPartition> partitions(String topic) throws Exception {
        return described(topic).stream()
            .map(info -> new TopicPartition(topic, info.partition())).collect(Collectors.toSet());
    }

    private static List<Integer> ids(String text) {
        return Arrays.stream(text.split(",")).map(Integer::valueOf).collect(Collectors.toList());
    }

    private static String nodes(List<Node> nodes) {
        return nodes.stream().map(node -> String.valueOf(node.id())).collect(Collectors.joining(","));
    }

    private static void bytes(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) {
            out.write(bytes);
        }
    }
}

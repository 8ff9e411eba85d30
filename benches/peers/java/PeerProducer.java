import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * The Java client with the flags and the last line of the other programs: {@code send} with a callback that counts for
 * throughput, {@code send().get()} in the synchronous modes, and no look at the futures in transactions.
 */
public final class PeerProducer {
    private static final Map<String, String> FLAGS = new HashMap<>(Map.of(
        "--topic", "peers", "--mode", "throughput", "--size", "100", "--keys", "0", "--compression", "none", "--acks", "all"));
    private static final int VALUES = 64;

    private static String mode;
    private static String topic;
    private static long records;
    private static int threads;
    private static int transaction;
    private static byte[][] values;
    private static byte[][] keys;

    public static void main(String[] words) throws Exception {
        for (int i = 0; i + 1 < words.length; i += 2) {
            FLAGS.put(words[i], words[i + 1]);
        }
        mode = FLAGS.get("--mode");
        topic = FLAGS.get("--topic");
        boolean isThroughput = mode.equals("throughput");
        boolean isSync = mode.equals("sync");
        boolean isTransactions = mode.equals("transactions");
        transaction = (int) number("--transaction", 10);
        records = number("--records",
            isThroughput ? 2_000_000 : isSync ? 20_000 : isTransactions ? 1_000 : 100_000);
        long warmup = number("--warmup", isThroughput ? 1_000_000 : 50_000);
        threads = (int) number("--threads", mode.equals("syncthreads") ? 16 : 1);
        long linger = linger();
        makeRecords((int) number("--size", 100), (int) number("--keys", 0));

        Properties properties = new Properties();
        properties.put("bootstrap.servers", FLAGS.get("--bootstrap"));
        properties.put("acks", FLAGS.get("--acks"));
        properties.put("enable.idempotence", "true");
        properties.put("linger.ms", Long.toString(linger));
        properties.put("compression.type", FLAGS.get("--compression"));
        if (number("--batch-size", 0) > 0) {
            properties.put("batch.size", FLAGS.get("--batch-size"));
        }
        if (isTransactions) {
            properties.put("transactional.id", topic + "-" + ProcessHandle.current().pid());
        }
        try (Producer<byte[], byte[]> producer =
                 new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (isThroughput) {
                throughput(producer, warmup);
                Usage before = Usage.now();
                long acknowledged = throughput(producer, records);
                report(before, Usage.now(), acknowledged, null);
            } else if (isTransactions) {
                producer.initTransactions();
                transactions(producer, warmup);
                Usage before = Usage.now();
                long[] latencies = transactions(producer, records);
                report(before, Usage.now(), latencies.length, latencies);
            } else {
                sync(producer, warmup);
            }
        }
    }

    private static long number(String flag, long otherwise) {
        String text = FLAGS.get(flag);
        return text == null ? otherwise : Long.parseLong(text);
    }

    /** Its default where it makes a difference; a commit cuts it, as it does in the other clients. */
    private static long linger() {
        return number("--linger-ms", mode.equals("throughput") || mode.equals("transactions") ? 5 : 0);
    }

    private static long share(long total, int index) {
        return total / threads + (index < total % threads ? 1 : 0);
    }

    private static ProducerRecord<byte[], byte[]> record(long number) {
        byte[] key = keys.length == 0 ? null : keys[(int) (number % keys.length)];
        return new ProducerRecord<>(topic, key, values[(int) (number % VALUES)]);
    }

    private static long throughput(Producer<byte[], byte[]> producer, long count) throws Exception {
        AtomicLong acknowledged = new AtomicLong();
        Callback callback = (metadata, failure) -> {
            if (failure != null) {
                failure.printStackTrace();
                System.exit(1);
            }
            acknowledged.incrementAndGet();
        };
        inThreads(index -> {
            long share = share(count, index);
            for (long number = 0; number < share; number++) {
                producer.send(record(number), callback);
            }
        });
        producer.flush();
        return acknowledged.get();
    }

    private static void sync(Producer<byte[], byte[]> producer, long warmup) throws Exception {
        long[][] latencies = new long[threads][];
        Usage[] before = new Usage[1];
        Usage[] after = new Usage[1];
        CyclicBarrier warm = new CyclicBarrier(threads, () -> before[0] = Usage.now());
        // While the threads still live, whose switches count.
        CyclicBarrier done = new CyclicBarrier(threads, () -> after[0] = Usage.now());
        inThreads(index -> {
            for (long number = share(warmup, index); number > 0; number--) {
                producer.send(record(number)).get();
            }
            int share = (int) share(records, index);
            long[] own = latencies[index] = new long[share];
            warm.await();
            for (int number = 0; number < share; number++) {
                long began = System.nanoTime();
                producer.send(record(number)).get();
                own[number] = System.nanoTime() - began;
            }
            done.await();
        });
        long[] all = Stream.of(latencies).flatMapToLong(Arrays::stream).sorted().toArray();
        report(before[0], after[0], all.length, all);
    }

    /** That many transactions; answers how long each took, in order of size. */
    private static long[] transactions(Producer<byte[], byte[]> producer, long count) {
        long[] latencies = new long[(int) count];
        for (int i = 0; i < latencies.length; i++) {
            long began = System.nanoTime();
            producer.beginTransaction();
            for (int j = 0; j < transaction; j++) {
                producer.send(record((long) i * transaction + j));
            }
            producer.commitTransaction();
            latencies[i] = System.nanoTime() - began;
        }
        Arrays.sort(latencies);
        return latencies;
    }

    private interface Body {
        void run(int index) throws Exception;
    }

    /** Runs the body on the calling thread if there is to be one, else on as many as there are to be. */
    private static void inThreads(Body body) throws Exception {
        if (threads == 1) {
            body.run(0);
            return;
        }
        Thread[] running = new Thread[threads];
        for (int i = 0; i < threads; i++) {
            int index = i;
            running[i] = new Thread(() -> {
                try {
                    body.run(index);
                } catch (Exception failure) {
                    failure.printStackTrace();
                    System.exit(1);
                }
            });
            running[i].start();
        }
        for (Thread thread : running) {
            thread.join();
        }
    }

    private static void makeRecords(int size, int keyCount) {
        values = new byte[VALUES][];
        long random = 0x2545_f491_4f6c_dd1dL;
        for (int i = 0; i < VALUES; i++) {
            StringBuilder text = new StringBuilder("{\"id\":" + i);
            while (text.length() < size) {
                long[] drawn = new long[2];
                for (int j = 0; j < 2; j++) {
                    random ^= random << 13;
                    random ^= random >>> 7;
                    random ^= random << 17;
                    drawn[j] = random;
                }
                text.append(",\"user\":\"user-").append(Long.remainderUnsigned(drawn[0], 10_000));
                text.append("\",\"amount\":").append(Long.remainderUnsigned(drawn[1], 1_000_000));
            }
            values[i] = text.substring(0, size).getBytes();
        }
        keys = new byte[keyCount][];
        for (int i = 0; i < keyCount; i++) {
            keys[i] = String.format("key-%012d", i).getBytes();
        }
    }

    /** What the kernel counts for this process. */
    private record Usage(long nanos, double user, double system, long voluntary, long involuntary) {
        static Usage now() {
            try {
                String stat = Files.readString(Paths.get("/proc/self/stat"));
                String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
                long voluntary = 0;
                long involuntary = 0;
                // Of the threads that live: Java has no getrusage.
                try (var tasks = Files.newDirectoryStream(Paths.get("/proc/self/task"))) {
                    for (Path task : tasks) {
                        String status;
                        try {
                            status = Files.readString(task.resolve("status"));
                        } catch (java.io.IOException ended) {
                            continue;
                        }
                        voluntary += status(status, "\nvoluntary_ctxt_switches:");
                        involuntary += status(status, "\nnonvoluntary_ctxt_switches:");
                    }
                }
                // In ticks of 10 ms.
                double user = Long.parseLong(fields[11]) / 100.0;
                double system = Long.parseLong(fields[12]) / 100.0;
                return new Usage(System.nanoTime(), user, system, voluntary, involuntary);
            } catch (java.io.IOException failure) {
                throw new java.io.UncheckedIOException(failure);
            }
        }

        static long status(String status, String name) {
            int begin = status.indexOf(name) + name.length();
            return Long.parseLong(status.substring(begin, status.indexOf('\n', begin)).replace("kB", "").trim());
        }
    }

    private static void report(Usage before, Usage after, long acknowledged, long[] latencies) throws Exception {
        if (acknowledged != records) {
            throw new IllegalStateException("not every record was acknowledged");
        }
        double wall = (after.nanos - before.nanos) / 1e9;
        double user = after.user - before.user;
        double system = after.system - before.system;
        long peakKib = Usage.status(Files.readString(Paths.get("/proc/self/status")), "\nVmHWM:");
        StringBuilder line = new StringBuilder();
        line.append(String.format(Locale.ROOT,
            "{\"client\":\"java\",\"version\":\"%s\",\"note\":\"idempotent\",\"mode\":\"%s\",\"records\":%d,\"size\":%d,"
                + "\"keys\":%d,\"threads\":%d,\"linger_ms\":%d,\"batch_size\":%s,\"compression\":\"%s\"",
            AppInfoParser.getVersion(), mode, records, values[0].length, keys.length, threads,
            linger(), FLAGS.getOrDefault("--batch-size", "null"),
            FLAGS.get("--compression")));
        if (mode.equals("transactions")) {
            line.append(",\"transaction\":").append(transaction);
        }
        line.append(String.format(Locale.ROOT,
            ",\"wall_s\":%f,\"cpu_user_s\":%f,\"cpu_sys_s\":%f,\"records_per_s\":%f,\"cpu_ns_per_record\":%f,"
                + "\"peak_rss_mb\":%f,\"nvcsw\":%d,\"nivcsw\":%d",
            wall, user, system, records / wall, (user + system) * 1e9 / records, peakKib / 1024.0,
            after.voluntary - before.voluntary, after.involuntary - before.involuntary));
        if (latencies != null) {
            line.append(String.format(Locale.ROOT, ",\"mean_us\":%f", Arrays.stream(latencies).average().orElse(0) / 1e3));
            String[] names = {"p50_us", "p90_us", "p99_us", "p999_us", "max_us"};
            int[] permilles = {500, 900, 990, 999, 1000};
            for (int i = 0; i < names.length; i++) {
                int index = (int) ((latencies.length - 1L) * permilles[i] / 1000);
                line.append(String.format(Locale.ROOT, ",\"%s\":%f", names[i], latencies[index] / 1e3));
            }
        }
        System.out.println(line.append('}'));
    }
}

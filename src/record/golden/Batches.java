// Writes and reads batches with Kafka's own classes, to check this crate against them. Needs the jars of Kafka 4.3.
//
//   java -cp 'kafka/libs/*' Batches.java write > java.txt      batches by Kafka; the fixture of the tests in reader/
//   java -cp 'kafka/libs/*' Batches.java read < ours.txt       reads batches that this crate wrote
//
// Both print, for each set of batches, a line "set NAME HEX", and what Kafka reads from it, a line for each batch and
// each record. In the other direction, "read" takes such lines and ignores all but the sets:
//
//   KAFKA_BLOCKING_GOLDEN=ours.txt cargo test record::reader::tests::ours   writes ours.txt, with what this crate reads
//   java -cp 'kafka/libs/*' Batches.java read < ours.txt | diff ours.txt -

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.zip.CRC32;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.ByteBufferOutputStream;

public class Batches {
    static final long NOW = 1_700_000_000_000L;
    static final Header[] NONE = {};
    static final Header[] SOME = {
        new RecordHeader("a", "1".getBytes()), new RecordHeader("b", (byte[]) null),
        new RecordHeader("a", new byte[0]), new RecordHeader("", "\u00e4".getBytes(StandardCharsets.UTF_8)),
    };

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            write();
            return;
        }
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("set")) {
                print(words[1], ByteBuffer.wrap(HexFormat.of().parseHex(words[2])));
            }
        }
    }

    static void write() {
        for (byte magic = 0; magic <= 2; magic++) {
            for (CompressionType type : CompressionType.values()) {
                if (magic < 2 && type == CompressionType.ZSTD) continue;
                for (long base : new long[] {0, 1000}) {
                    build("v" + magic + "-" + type.name + "-at-" + base, magic, type, TimestampType.CREATE_TIME, base,
                        -1, (short) -1, -1, false, RecordBatch.NO_TIMESTAMP);
                }
                if (magic > 0) {
                    build("v" + magic + "-" + type.name + "-append-time", magic, type, TimestampType.LOG_APPEND_TIME, 7,
                        -1, (short) -1, -1, false, RecordBatch.NO_TIMESTAMP);
                }
                if (type != CompressionType.NONE) {
                    large("v" + magic + "-" + type.name + "-large", magic, type);
                }
            }
        }
        build("idempotent", (byte) 2, CompressionType.NONE, TimestampType.CREATE_TIME, 0, 4000, (short) 3,
            Integer.MAX_VALUE, false, RecordBatch.NO_TIMESTAMP);
        build("transactional", (byte) 2, CompressionType.GZIP, TimestampType.CREATE_TIME, 0, 4000, (short) 3, 17, true,
            RecordBatch.NO_TIMESTAMP);
        build("delete-horizon", (byte) 2, CompressionType.NONE, TimestampType.CREATE_TIME, 5, -1, (short) -1, -1, false,
            NOW + 5000);
        for (ControlRecordType type : new ControlRecordType[] {ControlRecordType.COMMIT, ControlRecordType.ABORT}) {
            MemoryRecords marker = MemoryRecords.withEndTransactionMarker(
                40, NOW, 6, 4000, (short) 3, new EndTransactionMarker(type, 12));
            print("marker-" + type.name().toLowerCase(), marker.buffer());
        }
        ByteBuffer empty = ByteBuffer.allocate(DefaultRecordBatch.RECORD_BATCH_OVERHEAD);
        DefaultRecordBatch.writeEmptyHeader(empty, (byte) 2, 4000, (short) 3, 20, 100, 120, 6,
            TimestampType.CREATE_TIME, NOW, false, false);
        empty.flip();
        print("emptied-by-compaction", empty);
    }

    static void build(String name, byte magic, CompressionType codec, TimestampType type, long base, long producer,
            short epoch, int sequence, boolean transactional, long deleteHorizon) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(new ByteBufferOutputStream(1024), magic,
            Compression.of(codec).build(), type, base, NOW + 900, producer, epoch, sequence, transactional, false, 6,
            1 << 20, deleteHorizon);
        append(builder, NOW, null, null, NONE);
        append(builder, NOW + 64, "", "", magic == 2 ? SOME : NONE);
        append(builder, NOW - 70_000, "key", null, NONE);
        append(builder, NOW + 1, null, "value", magic == 2 ? new Header[] {SOME[1]} : NONE);
        append(builder, NOW + 100_000_000L, "k".repeat(64), "v".repeat(200), NONE);
        print(name, builder.build().buffer());
    }

    /** More than two blocks of any codec. */
    static void large(String name, byte magic, CompressionType codec) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), magic,
            Compression.of(codec).build(), TimestampType.CREATE_TIME, 50);
        for (int index = 0; index < 3; index++) {
            append(builder, NOW + index, "key" + index, ("0123456789abcdef" + index).repeat(4000), NONE);
        }
        print(name, builder.build().buffer());
    }

    static void append(MemoryRecordsBuilder builder, long timestamp, String key, String value, Header[] headers) {
        builder.append(timestamp, key == null ? null : key.getBytes(), value == null ? null : value.getBytes(), headers);
    }

    static void print(String name, ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        System.out.println("set " + name + " " + HexFormat.of().formatHex(bytes));
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches()) {
            batch.ensureValid();
            int count = 0;
            StringBuilder records = new StringBuilder();
            for (Record record : batch) {
                record.ensureValid();
                count++;
                records.append("record ").append(record.offset()).append(' ').append(record.timestamp());
                records.append(' ').append(text(record.key())).append(' ').append(text(record.value()));
                for (Header header : record.headers()) {
                    records.append(' ').append(text(ByteBuffer.wrap(header.key().getBytes(StandardCharsets.UTF_8))));
                    records.append('=').append(text(header.value() == null ? null : ByteBuffer.wrap(header.value())));
                }
                records.append('\n');
            }
            System.out.printf("batch %d %d..=%d epoch %d %s %s max %d producer %d %d %d %b %b count %d%n%s",
                batch.magic(), batch.baseOffset(), batch.lastOffset(), batch.partitionLeaderEpoch(),
                batch.compressionType().name, batch.timestampType() == TimestampType.LOG_APPEND_TIME ? "LogAppendTime"
                    : "CreateTime", batch.maxTimestamp(), batch.producerId(), batch.producerEpoch(),
                batch.baseSequence(), batch.isTransactional(), batch.isControlBatch(), count, records);
        }
    }

    static String text(ByteBuffer buffer) {
        if (buffer == null) return "null";
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        if (bytes.length <= 64) return "x" + HexFormat.of().formatHex(bytes);
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return String.format("%d*%08x", bytes.length, crc.getValue());
    }
}

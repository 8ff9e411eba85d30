import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Prints the frames that Kafka's own message classes write, one a line:
 *
 *     API request|response VERSION full|null HEX
 *
 * A frame is a header and a message, without the length before them. Every field of the message has a value made
 * from its name (see `value`; `sample.rs` makes the same ones), so that two fields in the wrong order show. In a
 * "null" frame each field that can be null is.
 *
 * To write frames.txt anew, with the jars of a Kafka release in LIBS:
 *
 *     java -cp 'LIBS/*' Golden.java > frames.txt
 */
public class Golden {
    /** The APIs of this crate, and the lowest and highest version of each. */
    static final int[][] APIS = {
        {0, 3, 13}, {1, 4, 18}, {2, 1, 11}, {3, 4, 13}, {9, 1, 10}, {10, 0, 6}, {18, 0, 4}, {19, 2, 7}, {20, 1, 6},
        {21, 0, 2}, {22, 0, 5}, {24, 0, 3}, {25, 0, 4}, {26, 0, 5}, {28, 0, 5}, {32, 1, 4}, {37, 0, 3},
        {44, 0, 1}, {60, 0, 2},
    };

    public static void main(String[] args) {
        for (int[] api : APIS) {
            ApiMessageType type = ApiMessageType.fromApiKey((short) api[0]);
            for (short version = (short) api[1]; version <= api[2]; version++) {
                String full = "";
                for (String nulls : new String[] {"full", "null"}) {
                    RequestHeaderData header = new RequestHeaderData().setRequestApiKey(type.apiKey())
                        .setRequestApiVersion(version).setCorrelationId(7)
                        .setClientId(nulls.equals("null") ? null : "client");
                    System.out.println(type.name + " request " + version + " " + nulls + " "
                        + hex(header, type.requestHeaderVersion(version))
                        + hex(fill(type.newRequest(), type.requestSchemas()[version], version, nulls), version));
                    String response = hex(new ResponseHeaderData().setCorrelationId(7),
                            type.responseHeaderVersion(version))
                        + hex(fill(type.newResponse(), type.responseSchemas()[version], version, nulls), version);
                    // Many answers have nothing that can be null.
                    if (!response.equals(full)) {
                        System.out.println(type.name + " response " + version + " " + nulls + " " + response);
                    }
                    full = response;
                }
            }
        }
    }

    /** The schema is only the way to fill in every field; what counts is how the message class itself writes. */
    static ApiMessage fill(ApiMessage message, Schema schema, short version, String nulls) {
        Struct filled = struct(schema, 0, nulls.equals("null"), 0);
        ByteBuffer bytes = ByteBuffer.allocate(filled.sizeOf());
        filled.writeTo(bytes);
        bytes.flip();
        message.read(new ByteBufferAccessor(bytes), version);
        if (bytes.hasRemaining()) throw new AssertionError(message + " version " + version + ": bytes are left");
        return message;
    }

    static String hex(Message message, short version) {
        byte[] bytes = MessageUtil.byteBufferToArray(MessageUtil.toByteBufferAccessor(message, version).buffer());
        return HexFormat.of().formatHex(bytes);
    }

    static Struct struct(Schema schema, int index, boolean nulls, int depth) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                Map<Integer, Object> values = new TreeMap<>();
                for (Map.Entry<Integer, Field> entry : tagged.fields().entrySet()) {
                    Object value = value(entry.getValue().type, entry.getValue().name, index, nulls, depth);
                    // A null can only be a default, and is not written.
                    if (value != null) values.put(entry.getKey(), value);
                }
                struct.set(field, values);
            } else {
                struct.set(field, value(field.def.type, field.def.name, index, nulls, depth));
            }
        }
        return struct;
    }

    /** The value of a field: from its name, and its place in the array around it. */
    static Object value(Type type, String name, int index, boolean nulls, int depth) {
        if (nulls && type.isNullable()) return null;
        if (type instanceof Schema schema) return struct(schema, index, nulls, depth);
        if (type.arrayElementType().isPresent()) {
            Object[] items = new Object[depth == 0 ? 2 : 1];
            for (int i = 0; i < items.length; i++) {
                items[i] = value(type.arrayElementType().get(), name, i, nulls, depth + 1);
            }
            return items;
        }
        long hash = hash(name, index);
        if (type == Type.BOOLEAN) return (hash & 1) == 1;
        if (type == Type.INT8) return (byte) hash;
        if (type == Type.INT16) return (short) hash;
        if (type == Type.INT32) return (int) hash;
        if (type == Type.INT64) return hash;
        if (type == Type.UUID) return new Uuid(hash, ~hash);
        String typeName = type.toString();
        if (typeName.contains("STRING")) return name + index;
        if (typeName.contains("RECORDS")) {
            return MemoryRecords.readableRecords(ByteBuffer.allocate(8).putLong(0, hash));
        }
        throw new AssertionError("no value for " + typeName);
    }

    /** FNV-1a over the name and the index. */
    static long hash(String name, int index) {
        long hash = 0xcbf29ce484222325L;
        for (byte b : name.getBytes()) hash = (hash ^ b) * 0x100000001b3L;
        return (hash ^ index) * 0x100000001b3L;
    }
}

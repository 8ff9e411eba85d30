import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.*;
import java.nio.ByteBuffer;
import java.nio.file.*;
import java.util.*;
import org.apache.avro.*;
import org.apache.avro.generic.*;
import org.apache.avro.io.*;

/**
 * Java's Avro, and the frame of Confluent's serializers as their documentation describes it.
 * Usage: AvroJudge REGISTRY FILE. Answers each line of the file (fields separated by tabs) with one line:
 * "read", frame in hex: the value in JSON, read with the schema that the frame names.
 * "read-as", frame in hex, schema: the same, resolved to this schema.
 * "write", id, value in JSON: the frame in hex of a value written with the registry's schema of this id.
 * "evolve", writer's schema, value in JSON, reader's schema: the value in hex as it is written, and then, rendered, as it
 * is read with both. In this JSON a value of a union is {"branch": index, "value": value}, a decimal is its digits, and
 * bytes are hex. No registry is asked.
 * "fails" and the reason, if any of them throws.
 */
public class AvroJudge {
    private static String registry;

    public static void main(String[] args) throws Exception {
        registry = args[0];
        for (String line : Files.readAllLines(Path.of(args[1]))) {
            String answer;
            try {
                answer = answer(line.split("\t", -1));
            } catch (Exception thrown) {
                answer = "fails\t" + thrown.toString().replaceAll("[\r\n\t]+", " ");
            }
            System.out.println(answer);
        }
    }

    private static String answer(String[] f) throws Exception {
        switch (f[0]) {
            case "read":
                return read(f[1], null);
            case "read-as":
                return read(f[1], new Schema.Parser().parse(f[2]));
            case "write": {
                Schema schema = schema(Integer.parseInt(f[1]));
                Object value = new GenericDatumReader<Object>(schema)
                    .read(null, DecoderFactory.get().jsonDecoder(schema, f[2]));
                ByteArrayOutputStream out = new ByteArrayOutputStream();
                out.write(0);
                out.write(ByteBuffer.allocate(4).putInt(Integer.parseInt(f[1])).array());
                BinaryEncoder encoder = EncoderFactory.get().directBinaryEncoder(out, null);
                new GenericDatumWriter<Object>(schema).write(value, encoder);
                encoder.flush();
                return HexFormat.of().formatHex(out.toByteArray());
            }
            case "evolve": {
                Schema writer = new Schema.Parser().parse(f[1]);
                ByteArrayOutputStream out = new ByteArrayOutputStream();
                BinaryEncoder encoder = EncoderFactory.get().directBinaryEncoder(out, null);
                Object value = value(writer, new com.fasterxml.jackson.databind.ObjectMapper().readTree(f[2]));
                new GenericDatumWriter<Object>(writer).write(value, encoder);
                String hex = HexFormat.of().formatHex(out.toByteArray());
                try {
                    Schema reader = new Schema.Parser().parse(f[3]);
                    BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(out.toByteArray(), null);
                    Object read = new GenericDatumReader<Object>(writer, reader).read(null, decoder);
                    return hex + "\t" + render(read, reader);
                } catch (Exception thrown) {
                    return hex + "\tfails " + thrown.toString().replaceAll("[\r\n\t]+", " ");
                }
            }
            default:
                throw new IllegalArgumentException("no such command: " + f[0]);
        }
    }

    private static final Conversions.DecimalConversion DECIMAL = new Conversions.DecimalConversion();
    private static final Conversions.BigDecimalConversion BIG_DECIMAL = new Conversions.BigDecimalConversion();

    private static String logical(Schema schema) {
        return schema.getLogicalType() == null ? "" : schema.getLogicalType().getName();
    }

    /** The value that JSON stands for, with decimals as Java's conversions write them. */
    private static Object value(Schema s, com.fasterxml.jackson.databind.JsonNode json) {
        switch (s.getType()) {
            case NULL:
                return null;
            case BOOLEAN:
                return json.booleanValue();
            case INT:
                return json.intValue();
            case LONG:
                return json.longValue();
            case FLOAT:
                return json.floatValue();
            case DOUBLE:
                return json.doubleValue();
            case STRING:
                return json.textValue();
            case ENUM:
                return new GenericData.EnumSymbol(s, json.textValue());
            case BYTES:
                if (logical(s).equals("decimal")) {
                    return DECIMAL.toBytes(new java.math.BigDecimal(json.textValue()), s, s.getLogicalType());
                }
                if (logical(s).equals("big-decimal")) {
                    return BIG_DECIMAL.toBytes(new java.math.BigDecimal(json.textValue()), s, s.getLogicalType());
                }
                return ByteBuffer.wrap(HexFormat.of().parseHex(json.textValue()));
            case FIXED:
                if (logical(s).equals("decimal")) {
                    return DECIMAL.toFixed(new java.math.BigDecimal(json.textValue()), s, s.getLogicalType());
                }
                return new GenericData.Fixed(s, HexFormat.of().parseHex(json.textValue()));
            case ARRAY: {
                List<Object> items = new ArrayList<>();
                json.forEach(item -> items.add(value(s.getElementType(), item)));
                return items;
            }
            case MAP: {
                Map<String, Object> items = new HashMap<>();
                json.fields().forEachRemaining(e -> items.put(e.getKey(), value(s.getValueType(), e.getValue())));
                return items;
            }
            case UNION:
                return value(s.getTypes().get(json.get("branch").intValue()), json.get("value"));
            default: {
                GenericData.Record record = new GenericData.Record(s);
                s.getFields().forEach(field -> record.put(field.name(), value(field.schema(), json.get(field.name()))));
                return record;
            }
        }
    }

    /** A text that shows branches of unions and every bit, and in which the entries of maps are sorted. */
    private static String render(Object value, Schema s) {
        switch (s.getType()) {
            case FLOAT:
                return "float " + HexFormat.of().toHexDigits(Float.floatToRawIntBits((Float) value));
            case DOUBLE:
                return "double " + HexFormat.of().toHexDigits(Double.doubleToRawLongBits((Double) value));
            case STRING: {
                String text = value.toString();
                return (logical(s).equals("uuid") && text.length() == 36 ? "uuid " + text : "string " + text);
            }
            case ENUM:
                return "enum " + value;
            case BYTES: {
                ByteBuffer bytes = (ByteBuffer) value;
                if (logical(s).equals("big-decimal")) {
                    java.math.BigDecimal decimal = BIG_DECIMAL.fromBytes(bytes, s, s.getLogicalType());
                    return "big " + HexFormat.of().formatHex(decimal.unscaledValue().toByteArray()) + " " + decimal.scale();
                }
                byte[] copy = new byte[bytes.remaining()];
                bytes.get(copy);
                return "bytes " + HexFormat.of().formatHex(copy);
            }
            case FIXED: {
                String hex = HexFormat.of().formatHex(((GenericFixed) value).bytes());
                return logical(s).equals("uuid")
                    ? "uuid " + hex.replaceFirst("(.{8})(.{4})(.{4})(.{4})(.{12})", "$1-$2-$3-$4-$5") : "bytes " + hex;
            }
            case ARRAY: {
                List<String> items = new ArrayList<>();
                ((Collection<?>) value).forEach(item -> items.add(render(item, s.getElementType())));
                return "[" + String.join(", ", items) + "]";
            }
            case MAP: {
                TreeMap<String, String> items = new TreeMap<>();
                ((Map<?, ?>) value).forEach((k, v) -> items.put(k.toString(), render(v, s.getValueType())));
                return items.toString();
            }
            case UNION: {
                int branch = GenericData.get().resolveUnion(s, value);
                return "branch " + branch + " " + render(value, s.getTypes().get(branch));
            }
            case RECORD: {
                List<String> fields = new ArrayList<>();
                s.getFields().forEach(f -> fields.add(f.name() + "=" + render(((GenericRecord) value).get(f.pos()), f.schema())));
                return "(" + String.join(", ", fields) + ")";
            }
            default:
                return String.valueOf(value);
        }
    }

    private static String read(String hex, Schema reader) throws Exception {
        ByteBuffer frame = ByteBuffer.wrap(HexFormat.of().parseHex(hex));
        if (frame.get() != 0) {
            throw new IllegalArgumentException("no magic byte");
        }
        Schema writer = schema(frame.getInt());
        BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(frame.array(), 5, frame.remaining(), null);
        Object value = new GenericDatumReader<Object>(writer, reader == null ? writer : reader).read(null, decoder);
        if (!decoder.isEnd()) {
            throw new IllegalArgumentException("bytes are left");
        }
        return GenericData.get().toString(value);
    }

    private static final Map<Integer, Schema> SCHEMAS = new HashMap<>();

    private static Schema schema(int id) throws Exception {
        if (!SCHEMAS.containsKey(id)) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(registry + "/schemas/ids/" + id)).build();
            HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 200) {
                throw new IllegalArgumentException("status " + answer.statusCode());
            }
            // The answer is a JSON object whose field "schema" is a string with the schema's JSON.
            var field = new com.fasterxml.jackson.databind.ObjectMapper().readTree(answer.body()).get("schema");
            SCHEMAS.put(id, new Schema.Parser().setValidateDefaults(false).parse(field.asText()));
        }
        return SCHEMAS.get(id);
    }
}

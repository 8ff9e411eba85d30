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
            default:
                throw new IllegalArgumentException("no such command: " + f[0]);
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

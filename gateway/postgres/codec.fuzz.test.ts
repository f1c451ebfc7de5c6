/** Random bytes and messages through the codec. Set FUZZ_SEED to repeat a run. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { GatewayError } from "../errors.ts";
import { decodeBackendMessage } from "./backend-decoder.ts";
import { encodeBackendMessage } from "./backend-encoder.ts";
import { decodeFrontendMessage } from "./frontend-decoder.ts";
import { encodeFrontendMessage } from "./frontend-encoder.ts";
import { backendType, type FrontendMessage, frontendType } from "./messages.ts";
import { Frame, FrameReader } from "./reader.ts";
import { decodeStartupPacket, readStartupMessage } from "./startup.ts";
import { MessageWriter } from "./writer.ts";

const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fffffff);
console.log(`codec.fuzz seed ${seed}`);
const runs = { seed, numRuns: Number(process.env.FUZZ_RUNS ?? 2_000) };
const bytes = fc.uint8Array({ maxLength: 80 }).map((value) => Buffer.from(value));
const only = (encoded: Buffer): Frame => {
  const reader = new FrameReader({ messageBytesMax: 1 << 20 });
  reader.push(encoded);
  const frame = reader.next();
  expect(reader.bufferedBytes).toBe(0);
  return frame as Frame;
};
/** The result, or undefined where the input was refused as it should be. */
function attempt<Result>(act: () => Result): Result | undefined {
  try {
    return act();
  } catch (error) {
    expect(error).toBeInstanceOf(GatewayError);
    return undefined;
  }
}

test("whatever a client's bytes decode to encodes to the same meaning", () => {
  const types = fc.constantFrom(...Object.values(frontendType), 0, 255);
  fc.assert(
    fc.property(types, bytes, (type, payload) => {
      const message = attempt(() => decodeFrontendMessage(new Frame(type, payload)));
      if (!message) return;
      expect(decodeFrontendMessage(only(encodeFrontendMessage(new MessageWriter(), message).take()))).toEqual(message);
    }),
    runs,
  );
});

test("whatever a target's bytes decode to encodes to the same meaning", () => {
  const types = fc.constantFrom(...Object.values(backendType), 0, 255);
  fc.assert(
    fc.property(types, bytes, (type, payload) => {
      const message = attempt(() => decodeBackendMessage(new Frame(type, payload)));
      if (!message || message.type === "AuthenticationUnsupported") return;
      expect(decodeBackendMessage(only(encodeBackendMessage(new MessageWriter(), message).take()))).toEqual(message);
    }),
    runs,
  );
});

test("a startup packet of any bytes is read or refused", () => {
  const codes = fc.constantFrom("00030000", "00030002", "0003ffff", "04d2162e", "04d2162f", "04d21630", "");
  fc.assert(
    fc.property(codes, bytes, (code, rest) => {
      const payload = Buffer.concat([Buffer.from(code, "hex"), rest]);
      const packet = attempt(() => decodeStartupPacket(new Frame(0, payload)));
      if (packet?.type === "StartupMessage") attempt(() => readStartupMessage(packet));
    }),
    runs,
  );
});

test("frames do not depend on how the stream is cut", () => {
  const text = fc.string({ unit: "binary", maxLength: 40 }).filter((value) => !value.includes("\0"));
  const format = fc.constantFrom<0 | 1>(0, 1);
  const message = fc.oneof(
    text.map((query): FrontendMessage => ({ type: "Query", query })),
    fc.record({
      type: fc.constant("Bind" as const),
      portal: text,
      statement: text,
      parameterFormats: fc.array(format, { maxLength: 1 }),
      parameters: fc.array(fc.option(bytes), { maxLength: 5 }),
      resultFormats: fc.array(format, { maxLength: 5 }),
    }),
    bytes.map((data): FrontendMessage => ({ type: "CopyData", data })),
  );
  fc.assert(
    fc.property(fc.array(message, { maxLength: 6 }), fc.array(fc.nat(400), { maxLength: 8 }), (messages, cuts) => {
      const writer = new MessageWriter();
      for (const next of messages) encodeFrontendMessage(writer, next);
      const stream = writer.take();
      const reader = new FrameReader({ messageBytesMax: 10_000 });
      const decoded: FrontendMessage[] = [];
      const edges = [0, ...cuts.filter((cut) => cut < stream.length).sort((a, b) => a - b), stream.length];
      edges.slice(1).forEach((end, index) => {
        reader.push(stream.subarray(edges[index], end));
        for (const frame of reader) decoded.push(decodeFrontendMessage(frame));
      });
      expect(decoded).toEqual(messages);
    }),
    { ...runs, numRuns: 500 },
  );
});

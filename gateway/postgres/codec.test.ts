import { describe, expect, test } from "bun:test";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { limits } from "../limits.ts";
import { decodeBackendMessage, decodeDataRow, forEachField } from "./backend-decoder.ts";
import { encodeBackendMessage, encodeDataRow } from "./backend-encoder.ts";
import {
  decodeFrontendMessage,
  decodePasswordMessage,
  decodeSASLInitialResponse,
  decodeSASLResponse,
} from "./frontend-decoder.ts";
import { encodeFrontendMessage } from "./frontend-encoder.ts";
import type { BackendMessage, FrontendMessage } from "./messages.ts";
import { Frame, FrameReader } from "./reader.ts";
import { MessageWriter } from "./writer.ts";

const codeOf = (act: () => unknown) => {
  try {
    act();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return "none";
};
const frame = (type: string, payload: Buffer | string) =>
  new Frame(type.charCodeAt(0), Buffer.from(payload as string, "latin1"));
/** The only frame in `bytes`. */
function only(bytes: Buffer): Frame {
  const reader = new FrameReader({ messageBytesMax: 1 << 20 });
  reader.push(bytes);
  const frames = [...reader];
  expect(frames).toHaveLength(1);
  expect(reader.bufferedBytes).toBe(0);
  return frames[0] as Frame;
}
const frontend = (message: Parameters<typeof encodeFrontendMessage>[1]) =>
  encodeFrontendMessage(new MessageWriter(), message).take();
const backend = (message: BackendMessage) => encodeBackendMessage(new MessageWriter(), message).take();

/** Bytes as in the protocol's documentation, written by hand. */
const frontendFixtures: [FrontendMessage, string][] = [
  [{ type: "Query", query: "SELECT 'é'" }, "51 00000010 53454c4543542027c3a92700"],
  [{ type: "Query", query: "\ufeffSELECT 1" }, "51 00000010 efbbbf53454c454354203100"],
  [
    { type: "Parse", statement: "s", query: "q", parameterTypeOids: [23, 4294967295] },
    "50 00000012 7300 7100 0002 00000017 ffffffff",
  ],
  [
    {
      type: "Bind",
      portal: "p",
      statement: "s",
      parameterFormats: [1],
      parameters: [Buffer.from("ab"), null],
      resultFormats: [0, 1],
    },
    "42 0000001e 7000 7300 0001 0001 0002 00000002 6162 ffffffff 0002 0000 0001",
  ],
  [{ type: "Execute", portal: "", rowsMax: 7 }, "45 00000009 00 00000007"],
  [{ type: "Describe", kind: "statement", name: "s" }, "44 00000007 53 7300"],
  [{ type: "Close", kind: "portal", name: "" }, "43 00000006 50 00"],
  [{ type: "Sync" }, "53 00000004"],
  [{ type: "Flush" }, "48 00000004"],
  [{ type: "Terminate" }, "58 00000004"],
  [{ type: "CopyDone" }, "63 00000004"],
  [{ type: "CopyData", data: Buffer.from([0, 255]) }, "64 00000006 00ff"],
  [{ type: "CopyFail", message: "no" }, "66 00000007 6e6f00"],
  [
    { type: "FunctionCall", functionOid: 1, argumentFormats: [], arguments: [Buffer.from("a")], resultFormat: 1 },
    "46 00000013 00000001 0000 0001 00000001 61 0001",
  ],
];
const backendFixtures: [BackendMessage, string][] = [
  [{ type: "AuthenticationOk" }, "52 00000008 00000000"],
  [{ type: "AuthenticationCleartextPassword" }, "52 00000008 00000003"],
  [{ type: "AuthenticationMD5Password", salt: Buffer.from([1, 2, 3, 4]) }, "52 0000000c 00000005 01020304"],
  [{ type: "AuthenticationSASL", mechanisms: ["A", "B"] }, "52 0000000d 0000000a 4100 4200 00"],
  [{ type: "AuthenticationSASLContinue", data: Buffer.from("x") }, "52 00000009 0000000b 78"],
  [{ type: "AuthenticationSASLFinal", data: Buffer.from("x") }, "52 00000009 0000000c 78"],
  [
    { type: "BackendKeyData", processId: 9, secretKey: Buffer.from([1, 2, 3, 4, 5]) },
    "4b 0000000d 00000009 0102030405",
  ],
  [{ type: "ParameterStatus", name: "a", value: "b" }, "53 00000008 6100 6200"],
  [{ type: "ReadyForQuery", status: "T" }, "5a 00000005 54"],
  [
    {
      type: "RowDescription",
      fields: [{ name: "c", tableOid: 5, attnum: -1, typeOid: 25, typeSize: -1, modifier: -1, format: 0 }],
    },
    "54 0000001a 0001 6300 00000005 ffff 00000019 ffff ffffffff 0000",
  ],
  [
    { type: "DataRow", fields: [Buffer.from("ab"), null, Buffer.alloc(0)] },
    "44 00000014 0003 00000002 6162 ffffffff 00000000",
  ],
  [{ type: "CommandComplete", tag: "X" }, "43 00000006 5800"],
  [{ type: "EmptyQueryResponse" }, "49 00000004"],
  [{ type: "ErrorResponse", fields: { S: "E", M: "m" } }, "45 0000000b 534500 4d6d00 00"],
  [{ type: "NoticeResponse", fields: {} }, "4e 00000005 00"],
  [{ type: "CopyInResponse", format: 0, columnFormats: [0, 0] }, "47 0000000b 00 0002 0000 0000"],
  [{ type: "CopyOutResponse", format: 1, columnFormats: [] }, "48 00000007 01 0000"],
  [{ type: "CopyBothResponse", format: 1, columnFormats: [1] }, "57 00000009 01 0001 0001"],
  [{ type: "ParameterDescription", typeOids: [25] }, "74 0000000a 0001 00000019"],
  [{ type: "ParseComplete" }, "31 00000004"],
  [{ type: "BindComplete" }, "32 00000004"],
  [{ type: "CloseComplete" }, "33 00000004"],
  [{ type: "NoData" }, "6e 00000004"],
  [{ type: "PortalSuspended" }, "73 00000004"],
  [{ type: "NotificationResponse", processId: 1, channel: "c", payload: "p" }, "41 0000000c 00000001 6300 7000"],
  [
    { type: "NegotiateProtocolVersion", minor: 2, unrecognized: ["_pq_.x"] },
    "76 00000013 00030002 00000001 5f70715f2e7800",
  ],
  [{ type: "FunctionCallResponse", result: null }, "56 00000008 ffffffff"],
];
const unhex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");

describe("messages", () => {
  for (const [message, hex] of frontendFixtures) {
    test(`encodes and decodes ${message.type} from a client`, () => {
      expect(frontend(message).toString("hex")).toBe(unhex(hex).toString("hex"));
      expect(decodeFrontendMessage(only(unhex(hex)))).toEqual(message);
    });
  }
  for (const [message, hex] of backendFixtures) {
    test(`encodes and decodes ${message.type} from a server`, () => {
      expect(backend(message).toString("hex")).toBe(unhex(hex).toString("hex"));
      expect(decodeBackendMessage(only(unhex(hex)))).toEqual(message);
    });
  }
  test("refuses every message that is cut short or has a byte too many", () => {
    const open = ["CopyData", "AuthenticationSASLContinue", "AuthenticationSASLFinal", "BackendKeyData"];
    for (const [message, hex] of [...frontendFixtures, ...backendFixtures]) {
      if (open.includes(message.type)) continue;
      const isFrontend = frontendFixtures.some(([other]) => other === message);
      const decode = (cut: Frame) => (isFrontend ? decodeFrontendMessage(cut) : decodeBackendMessage(cut));
      const code = isFrontend ? "protocol.malformed" : "upstream.protocol";
      const { type, payload } = only(unhex(hex));
      for (let length = 0; length < payload.length; length++) {
        expect(codeOf(() => decode(new Frame(type, payload.subarray(0, length))))).toBe(code);
        // What lies behind it in the same chunk is not its own.
        expect(codeOf(() => decode(new Frame(type, Buffer.concat([payload, Buffer.alloc(8)]), 0, length)))).toBe(code);
      }
      expect(codeOf(() => decode(new Frame(type, Buffer.concat([payload, Buffer.from([0])]))))).toBe(code);
    }
  });
  test("decodes the three answers to an authentication request", () => {
    const data = Buffer.from("n,,");
    expect(decodePasswordMessage(only(frontend({ type: "PasswordMessage", password: "p" }))).password).toBe("p");
    const initial = { type: "SASLInitialResponse", mechanism: "OAUTHBEARER", data } as const;
    expect(decodeSASLInitialResponse(only(frontend(initial)))).toEqual(initial);
    expect(decodeSASLInitialResponse(only(frontend({ ...initial, data: null }))).data).toBeNull();
    expect(decodeSASLResponse(only(frontend({ type: "SASLResponse", data })))).toEqual({ type: "SASLResponse", data });
    expect(codeOf(() => decodePasswordMessage(frame("Q", "x\0")))).toBe("protocol.malformed");
    expect(codeOf(() => decodePasswordMessage(frame("p", "x\0y\0")))).toBe("protocol.malformed");
    const long = frame("p", `${"x".repeat(limits.tokenBytesMax + 1_024)}\0`);
    expect(codeOf(() => decodePasswordMessage(long))).toBe("protocol.malformed");
  });
  test.each([
    ["text that is not UTF-8", frame("Q", "\xff\0")],
    ["an overlong UTF-8 form", frame("Q", "\xc0\x80\0")],
    ["a surrogate in UTF-8", frame("Q", "\xed\xa0\x80\0")],
    ["a second statement behind the terminator", frame("Q", "SELECT 1\0DROP TABLE t\0")],
    ["an unknown type", frame("?", "")],
    ["a password outside of authentication", frame("p", "x\0")],
    ["an unknown subtype", frame("D", "X\0")],
    ["an unknown format code", frame("B", "\0\0\0\x01\0\x02\0\0\0\0")],
    ["a negative length", frame("B", "\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0")],
    ["more formats than parameters", frame("B", "\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0")],
  ])("refuses %s", (_, bad) => {
    expect(codeOf(() => decodeFrontendMessage(bad))).toBe("protocol.malformed");
  });
  test("accepts as many columns as PostgreSQL has and not one more", () => {
    const row = (count: number) => {
      const writer = new MessageWriter();
      return only(encodeDataRow(writer, Array(count).fill(null)).take());
    };
    expect(decodeDataRow(row(limits.columnsMax))).toHaveLength(limits.columnsMax);
    expect(codeOf(() => decodeBackendMessage(row(limits.columnsMax + 1)))).toBe("upstream.protocol");
    const bind = { type: "Bind", portal: "", statement: "", parameterFormats: [], parameters: [] } as const;
    const formats = (count: number) => only(frontend({ ...bind, resultFormats: Array(count).fill(0) }));
    expect(codeOf(() => decodeFrontendMessage(formats(limits.columnsMax)))).toBe("none");
    expect(codeOf(() => decodeFrontendMessage(formats(limits.columnsMax + 1)))).toBe("protocol.too_large");
  });
  test("accepts 65535 parameters", () => {
    const parameters = Array<null>(limits.parametersMax).fill(null);
    const bind: FrontendMessage = {
      type: "Bind",
      portal: "",
      statement: "",
      parameterFormats: [],
      parameters,
      resultFormats: [],
    };
    expect(decodeFrontendMessage(only(frontend(bind)))).toEqual(bind);
  });
  test("refuses one parameter, type or format more than the limit, which the wire cannot reach as it stands", () => {
    using _ = loweredLimits({ parametersMax: 2 });
    const bind = { type: "Bind", portal: "", statement: "", resultFormats: [] } as const;
    const messages = (count: number): FrontendMessage[] => [
      { type: "Parse", statement: "", query: "", parameterTypeOids: Array(count).fill(23) },
      { ...bind, parameterFormats: [], parameters: Array(count).fill(null) },
      { ...bind, parameterFormats: Array(count).fill(0), parameters: Array(count).fill(null) },
    ];
    const codes = (count: number) =>
      messages(count).map((message) => codeOf(() => decodeFrontendMessage(only(frontend(message)))));
    expect(codes(2)).toEqual(["none", "none", "none"]);
    expect(codes(3)).toEqual(["protocol.too_large", "protocol.too_large", "protocol.too_large"]);
  });
  test("visits a row's fields by their offsets", () => {
    const row = only(backend({ type: "DataRow", fields: [Buffer.from("ab"), null] }));
    const seen: number[][] = [];
    expect(forEachField(row, (...field) => seen.push(field))).toBe(2);
    expect(seen).toEqual([
      [row.start + 6, row.start + 8, 0],
      [-1, -1, 1],
    ]);
  });
  test("cuts an error's field at its limit", () => {
    using _ = loweredLimits({ errorFieldBytesMax: 1_000 });
    const text = "x".repeat(limits.errorFieldBytesMax + 1);
    const message = decodeBackendMessage(only(backend({ type: "ErrorResponse", fields: { M: text } })));
    expect(message.type === "ErrorResponse" && message.fields.M?.length).toBe(limits.errorFieldBytesMax);
  });
  test("refuses to encode a string with a NUL in it", () => {
    expect(codeOf(() => frontend({ type: "Query", query: "a\0b" }))).toBe("protocol.malformed");
  });
});

test("more parameters than their count has room for are told as the server tells them", () => {
  const message: BackendMessage = { type: "ParameterDescription", typeOids: Array<number>(65_537).fill(25) };
  const bytes = encodeBackendMessage(new MessageWriter(), message).take();
  expect(bytes.readUInt16BE(5)).toBe(1);
  expect(decodeBackendMessage(only(bytes))).toEqual(message);
});

describe("frames", () => {
  const stream = Buffer.concat(frontendFixtures.map(([, hex]) => unhex(hex)));
  const read = (chunks: Buffer[], reader = new FrameReader({ messageBytesMax: 1_000 })) => {
    const messages: FrontendMessage[] = [];
    for (const chunk of chunks) {
      reader.push(chunk);
      for (const next of reader) messages.push(decodeFrontendMessage(next));
    }
    return messages;
  };
  const all = frontendFixtures.map(([message]) => message);
  test("are the same wherever the stream is split", () => {
    for (let at = 0; at <= stream.length; at++) {
      expect(read([stream.subarray(0, at), stream.subarray(at)])).toEqual(all);
    }
    expect(read([...stream].map((byte) => Buffer.from([byte])))).toEqual(all);
  });
  test("inside one chunk are views of it", () => {
    const reader = new FrameReader({ messageBytesMax: 1_000 });
    reader.push(stream);
    for (const next of reader) expect(next.payload.buffer).toBe(stream.buffer);
  });
  test("may be as long as the limit and not a byte longer", () => {
    const header = (length: number) => Buffer.from([0x51, 0, 0, length >> 8, length & 255]);
    const reader = new FrameReader({ messageBytesMax: 1_000 });
    reader.push(Buffer.concat([header(1_000), Buffer.alloc(996)]));
    expect(reader.next()?.payload).toHaveLength(996);
    reader.push(header(1_001));
    expect(codeOf(() => reader.next())).toBe("protocol.too_large");
    reader.push(header(4));
    expect(codeOf(() => reader.next())).toBe("protocol.too_large");
  });
  test.each([3, 0, -1, -2147483648])("with a length of %d are refused", (length) => {
    const bytes = Buffer.alloc(5, 0x51);
    bytes.writeInt32BE(length, 1);
    for (let at = 0; at <= 5; at++) {
      expect(() => read([bytes.subarray(0, at), bytes.subarray(at)])).toThrow(
        expect.objectContaining({ code: "protocol.malformed", message: `invalid message length ${length}` }),
      );
    }
  });
  test("hold no more memory than what arrived, whatever length is claimed", () => {
    const reader = new FrameReader({ messageBytesMax: 1 << 30 });
    reader.push(unhex("51 3fffffff 0000"));
    const before = process.memoryUsage().arrayBuffers;
    expect(reader.next()).toBeUndefined();
    expect(reader.bufferedBytes).toBe(7);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });
  test("open without a type byte until the startup is done", () => {
    const reader = new FrameReader({ messageBytesMax: 1_000, startupBytesMax: 10 });
    reader.push(unhex("00000008 04d2162f 00000008 04d2162f 53 00000004"));
    expect(reader.next()).toMatchObject({ type: 0, payload: unhex("04d2162f") });
    expect(reader.next()).toMatchObject({ type: 0, payload: unhex("04d2162f") });
    reader.startupDone();
    expect(reader.next()?.type).toBe(0x53);
    const strict = new FrameReader({ messageBytesMax: 1_000, startupBytesMax: 10 });
    strict.push(unhex("0000000b"));
    expect(codeOf(() => strict.next())).toBe("protocol.too_large");
  });
  test("give back what is left", () => {
    const reader = new FrameReader({ messageBytesMax: 1_000 });
    reader.push(unhex("53 00000004 53 00"));
    expect(reader.next()?.type).toBe(0x53);
    expect(reader.next()).toBeUndefined();
    reader.push(unhex("0000"));
    expect(reader.takeRemaining()).toEqual(unhex("53 00 0000"));
    expect(reader.bufferedBytes).toBe(0);
  });
});

describe("the writer", () => {
  test("leaves what it handed out as it was", () => {
    const writer = new MessageWriter();
    const taken: Buffer[] = [];
    for (let index = 0; index < 3_000; index++)
      taken.push(encodeDataRow(writer, [Buffer.alloc(50, index & 255)]).take());
    for (const [index, bytes] of taken.entries()) {
      expect(decodeDataRow(only(bytes))).toEqual([Buffer.alloc(50, index & 255)]);
    }
  });
  test("grows within a message", () => {
    const query = "é".repeat(200_000);
    const writer = encodeFrontendMessage(new MessageWriter(), { type: "Sync" });
    const bytes = encodeFrontendMessage(writer, { type: "Query", query }).take();
    expect(decodeFrontendMessage(only(bytes.subarray(5)))).toEqual({ type: "Query", query });
  });
});

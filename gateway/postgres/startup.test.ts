import { describe, expect, test } from "bun:test";
import { faultOf } from "../../scripts/postgres/fault-of.ts";
import { encodeCancelRequest, encodeSSLRequest, encodeStartupMessage } from "./frontend-encoder.ts";
import type { StartupMessage } from "./messages.ts";
import { Frame } from "./reader.ts";
import { decodeStartupPacket, readStartupMessage } from "./startup.ts";
import { MessageWriter } from "./writer.ts";

const packet = (bytes: Buffer) => decodeStartupPacket(new Frame(0, bytes.subarray(4)));
const read = (parameters: Record<string, string>, minor = 0) =>
  readStartupMessage(
    packet(encodeStartupMessage(new MessageWriter(), minor, { user: "a@b.c", ...parameters }).take()) as StartupMessage,
  );

describe("a startup packet", () => {
  test("is a request for TLS, for GSSAPI or for a cancel, or the start of a session", () => {
    expect(packet(encodeSSLRequest(new MessageWriter()).take())).toEqual({ type: "SSLRequest" });
    expect(packet(Buffer.from("0000000804d21630", "hex"))).toEqual({ type: "GSSENCRequest" });
    for (const size of [4, 32, 256]) {
      const request = { processId: 7, secretKey: Buffer.alloc(size, 1) };
      expect(packet(encodeCancelRequest(new MessageWriter(), request).take())).toEqual({
        type: "CancelRequest",
        ...request,
      });
    }
    expect(read({}).user).toBe("a@b.c");
  });
  test.each([
    ["a key that is too short", "04d2162e 00000001 000000", "protocol.malformed"],
    ["a key that is too long", `04d2162e 00000001 ${"00".repeat(257)}`, "protocol.malformed"],
    ["bytes behind SSLRequest", "04d2162f 00", "protocol.malformed"],
    ["protocol 2", "00020000", "protocol.unsupported"],
    ["protocol 4", "00040000 00", "protocol.unsupported"],
    ["no terminator", "00030000 7573657200 6100", "protocol.malformed"],
    ["a name without a value", "00030000 7573657200", "protocol.malformed"],
    ["bytes behind the terminator", "00030000 7573657200 6100 00 00", "protocol.malformed"],
    ["a parameter given twice", "00030000 7573657200 6100 7573657200 6200 00", "protocol.malformed"],
    ["text that is not UTF-8", "00030000 7573657200 ff00 00", "protocol.malformed"],
  ])("with %s is refused", (_, hex, code) => {
    const payload = Buffer.from(hex.replaceAll(" ", ""), "hex");
    expect(faultOf(() => decodeStartupPacket(new Frame(0, payload))).code).toBe(code);
  });
});

describe("start-up parameters", () => {
  test("are taken from the message and from options", () => {
    const request = read({
      database: "prod-db",
      application_name: "psql",
      client_encoding: "'utf-8'",
      TimeZone: "UTC",
      options: "-c DateStyle=ISO\\ ,\\ MDY --statement-timeout=5s -csearch_path=a\\\\b",
      "sallyport.reason": "incident 7",
    });
    expect(request).toEqual({
      user: "a@b.c",
      database: "prod-db",
      applicationName: "psql",
      settings: {
        application_name: "psql",
        timezone: "UTC",
        datestyle: "ISO , MDY",
        statement_timeout: "5s",
        search_path: "a\\b",
      },
      context: { reason: "incident 7" },
      minor: 0,
      unrecognized: undefined,
    });
  });
  test.each([
    ["jit", "off"],
    ["default_transaction_read_only", "on"],
    ["default_transaction_read_only", "True"],
  ])("take %s=%s, as drivers and their users send it", (name, value) => {
    expect(read({ options: `-c ${name}=${value}` }).settings).toEqual({ [name]: value });
    expect(read({ [name]: value }).settings).toEqual({ [name]: value });
  });
  test("keep the caller's context from the target", () => {
    const request = read({ options: "-c sallyport.prompt=find\\ it -c sallyport.ticket=T-1" });
    expect(request.context).toEqual({ prompt: "find it", ticket: "T-1" });
    expect(request.settings).toEqual({});
    expect(request.database).toBe("a@b.c");
  });
  test.each([
    ["role", { role: "postgres" }],
    ["session_authorization", { options: "-c session_authorization=postgres" }],
    ["row_security", { options: "--row-security=off" }],
    ["standard_conforming_strings", { standard_conforming_strings: "off" }],
    ["default_transaction_read_only", { default_transaction_read_only: "off" }],
    ["default_transaction_read_only", { options: "-c default_transaction_read_only=" }],
    ["client_encoding", { client_encoding: "LATIN1" }],
    ["client_encoding", { options: "-c client_encoding=SJIS" }],
    ["-W", { options: "-W" }],
    ["options", { options: "-c geqo=off\\" }],
  ])("refuse %s by its name", (name, parameters) => {
    const fault = faultOf(() => read(parameters as Record<string, string>));
    expect(fault.code).toBe("protocol.parameter_refused");
    expect(fault.message).toContain(name);
  });
  test("refuse replication", () => {
    expect(faultOf(() => read({ replication: "database" })).code).toBe("protocol.unsupported");
    expect(faultOf(() => read({ replication: "false" })).code).toBeUndefined();
  });
  test("refuse a session without a user", () => {
    expect(faultOf(() => read({ user: "" })).code).toBe("protocol.malformed");
  });
  test("negotiate a newer version and unknown protocol options down", () => {
    expect(read({}, 2)).toMatchObject({ minor: 2, unrecognized: undefined });
    expect(read({}, 9_999)).toMatchObject({ minor: 2, unrecognized: [] });
    expect(read({ "_pq_.x": "1" }, 0)).toMatchObject({ minor: 0, unrecognized: ["_pq_.x"] });
  });
});

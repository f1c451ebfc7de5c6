import { describe, expect, test } from "bun:test";
import { GatewayError } from "./errors.ts";
import { createLogger, redactText } from "./log.ts";

function capture(level: "debug" | "info" = "info", pretty = false) {
  const lines: string[] = [];
  const log = createLogger({ level, pretty, write: (line) => void lines.push(line) });
  return { log, lines, last: () => JSON.parse(lines.at(-1) ?? "null") as Record<string, unknown> };
}
const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

describe("log", () => {
  test("writes one JSON object a line, with the fields of its parents", () => {
    const { log, lines, last } = capture();
    log.child({ session: "s1" }).child({ target: "prod-db" }).info("opened", { commands: 3 });
    expect(lines).toHaveLength(1);
    expect(lines[0]?.endsWith("\n")).toBe(true);
    expect(last()).toMatchObject({ level: "info", message: "opened", session: "s1", target: "prod-db", commands: 3 });
  });

  test("leaves out what is below its level", () => {
    const { log, lines } = capture();
    log.debug("noise");
    expect(lines).toEqual([]);
  });

  test("never writes a value under a key that names a secret, at any depth", () => {
    const { log, lines } = capture();
    const fields = { password: "hunter2", headers: { Authorization: "hunter2", "set-cookie": ["hunter2"] } };
    log.info("request", { ...fields, accessToken: "hunter2", client_secret: { value: "hunter2" } });
    log.child({ api_key: "hunter2" }).info("child");
    expect(lines.join("")).not.toContain("hunter2");
  });

  test.each([
    [`token ${jwt}`],
    [`Authorization: Bearer abcdefgh12345678`],
    ["postgres://gateway:abcdefgh12345678@db/app"],
    ["password='abcdefgh12345678' host=db"],
    ["-----BEGIN PRIVATE KEY-----\nabcdefgh12345678\n-----END PRIVATE KEY-----"],
    ["ghp_abcdefgh12345678abcdefgh12345678"],
  ])("cuts token-like text out of strings: %s", (text) => {
    expect(redactText(text)).not.toContain("abcdefgh12345678");
    expect(redactText(text)).not.toContain("eyJ");
    expect(redactText(text)).toContain("[redacted]");
  });

  test("cleans errors and their causes, and stays on its feet with circular and deep values", () => {
    const { log, lines, last } = capture();
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    const error = new GatewayError("internal", "failed", { cause: new Error(`with ${jwt}`) });
    log.error("fault", { error, circular });
    expect(lines.join("")).not.toContain(jwt);
    expect(last()).toMatchObject({ error: { code: "internal", cause: { message: "with [redacted]" } } });
  });

  test("a line cannot be forged, nor a terminal driven, by what is logged", () => {
    const plain = capture();
    plain.log.info("a\nb", { level: "error", value: "x\ny" });
    expect(plain.lines).toHaveLength(1);
    expect(plain.lines[0]?.indexOf("\n")).toBe((plain.lines[0]?.length ?? 0) - 1);
    expect(plain.last().level).toBe("info");
    // JSON has no need to escape these.
    plain.log.info("a\x7f\x9b2J", { "\u202e": "\x9b" });
    expect(plain.lines[1]).toMatch(/^[\x20-\x7e]+\n$/);
    expect(plain.last().message).toBe("a\x7f\x9b2J");
    const pretty = capture("info", true);
    pretty.log.info("a\x1b]0;title\x07b", { value: "\x1b[2J\u202e" });
    expect(pretty.lines.join("")).not.toContain("\x1b]0");
    expect(pretty.lines.join("")).not.toContain("\x1b[2J");
  });

  test("a terminal's lines have colours, unless they are not wished for", () => {
    const line = (coloured: boolean) => {
      let written = "";
      const write = (text: string) => {
        written += text;
      };
      createLogger({ pretty: true, coloured, write, now: () => new Date(0) }).warn("m", { a: 1 });
      return written;
    };
    expect(line(true)).toBe("\x1b[2m00:00:00.000\x1b[0m \x1b[33mwarn \x1b[0m m \x1b[2ma=\x1b[0m1\n");
    expect(line(false)).toBe("00:00:00.000 warn  m a=1\n");
  });

  test("a value that throws does not reach the caller", () => {
    const { log } = capture();
    const hostile = Object.defineProperty({}, "field", {
      enumerable: true,
      get() {
        throw new Error("no");
      },
    });
    expect(() => log.info("x", { hostile })).not.toThrow();
  });
});

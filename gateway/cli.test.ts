import { describe, expect, test } from "bun:test";
import { escapeControls, type Terminal } from "./cli/terminal.ts";
import { runCli } from "./cli.ts";

async function run(line: string[], environment: Record<string, string> = {}) {
  let out = "";
  let err = "";
  const terminal: Terminal = {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    isTTY: false,
    columns: 100,
    environment,
  };
  const code = await runCli(line, terminal, new AbortController().signal);
  return { code, out, err };
}

describe("sallyport", () => {
  test("an unknown command or option, or a missing argument, shows usage and exits 2", async () => {
    for (const line of [
      ["nope"],
      [],
      ["sessions", "--nope"],
      ["approve"],
      ["deny", "a", "b"],
      ["verify"],
      ["export", "x", "--format", "csv"],
    ]) {
      const { code, err } = await run(line);
      expect([line.join(" "), code]).toEqual([line.join(" "), 2]);
      expect(err).toContain("Usage: sallyport");
    }
  });

  test("every command has its help", async () => {
    for (const name of [
      "login",
      "token",
      "psql",
      "sessions",
      "replay",
      "export",
      "verify",
      "approvals",
      "approve",
      "deny",
      "status",
    ]) {
      const { code, out } = await run([name, "--help"]);
      expect([code, out.startsWith(`Usage: sallyport ${name}`)]).toEqual([0, true]);
    }
  });

  test("never sends the token in clear to another machine", async () => {
    const { code, err } = await run(["status", "--gateway", "http://gateway.example"], { SALLYPORT_TOKEN: "t" });
    expect(code).toBe(2);
    expect(err).toContain("https://");
  });

  test("exits 4 where no gateway answers", async () => {
    expect((await run(["status", "--gateway", "http://127.0.0.1:1"], { SALLYPORT_TOKEN: "t" })).code).toBe(4);
  });

  test("recorded text cannot drive the terminal", () => {
    expect(escapeControls("a\x1b[2J\n\u202eb")).toBe("a\\x1b[2J\\n\\u202eb");
  });
});

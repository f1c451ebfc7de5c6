import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
      ["verify", "x", "--key", "seals.pem"],
      ["approvals", "ap-1", "--watch"],
      ["approvals", "--watch", "--state", "denied"],
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

  test("says why a gateway cannot be spoken to", async () => {
    const status = async (gateway: string) => {
      const { code, err } = await run(["status", "--gateway", gateway], { SALLYPORT_TOKEN: "t" });
      expect([gateway, code]).toEqual([gateway, 4]);
      return err;
    };
    await using elsewhere = Bun.serve({ port: 0, fetch: () => Response.redirect("https://idp.example/") });
    expect(await status("http://127.0.0.1:1")).toContain("does not answer (ECONNREFUSED).");
    expect(await status(`http://127.0.0.1:${elsewhere.port}`)).toContain("redirects elsewhere");
    expect(await status(`https://127.0.0.1:${elsewhere.port}`)).toContain("does not speak TLS");
    const folder = mkdtempSync(join(tmpdir(), "sallyport-cli-"));
    const [key, certificate] = [join(folder, "key"), join(folder, "certificate")];
    const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
    Bun.spawnSync(["openssl", ...request, "-keyout", key, "-out", certificate], { stderr: "ignore" });
    const tls = { key: readFileSync(key), cert: readFileSync(certificate) };
    rmSync(folder, { recursive: true });
    await using unknown = Bun.serve({ port: 0, tls, fetch: () => new Response() });
    const untrusted = await status(`https://localhost:${unknown.port}`);
    expect(untrusted).toContain("shows a certificate that is not trusted (DEPTH_ZERO_SELF_SIGNED_CERT)");
    expect(untrusted).toContain("NODE_EXTRA_CA_CERTS");
  });

  test("a login that cannot begin names the address and what is wrong there", async () => {
    const line = ["login", "--issuer", "http://127.0.0.1:1", "--client-id", "x", "--device"];
    const { code, err } = await run(line, { HOME: "/nonexistent" });
    expect([code, err]).toEqual([
      3,
      expect.stringMatching(
        /could not be read\.\nhint: {2}http:\/\/127\.0\.0\.1:1\/\.well-known\/openid-configuration: .*ECONNREFUSED/,
      ),
    ]);
  });

  test("a value that looks like an option is refused in one line, and an argument that lacks is named", async () => {
    expect((await run(["replay", "x", "--speed", "-1"])).err).toStartWith(
      "sallyport replay: Option '--speed' argument is ambiguous\n",
    );
    expect((await run(["approve"])).err).toStartWith("sallyport approve: it needs <id>\n");
  });

  test("with --json every error is JSON, on standard error", async () => {
    for (const [line, code, exitCode] of [
      [["sessions", "--limit", "x"], "usage", 2],
      [["sessions", "--gateway", "http://127.0.0.1:1"], "unreachable", 4],
    ] as const) {
      const ended = await run([...line, "--json"], { SALLYPORT_TOKEN: "t" });
      expect([ended.out, ended.code, JSON.parse(ended.err)]).toEqual([
        "",
        exitCode,
        { error: expect.objectContaining({ code }) },
      ]);
    }
  });

  test("tells its version", async () => {
    expect(await run(["--version"])).toEqual({
      code: 0,
      out: expect.stringMatching(/^sallyport \d+\.\d+\.\d+\n$/),
      err: "",
    });
  });

  test("recorded text cannot drive the terminal", () => {
    expect(escapeControls("a\x1b[2J\n\u202eb")).toBe("a\\x1b[2J\\n\\u202eb");
  });
});

import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { copyForOthers, isReachableByOthers, type PostgresOptions, startPostgres } from "./server.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-server-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function ask(options: PostgresOptions, ssl: postgres.Options<never>["ssl"] | undefined, text: string) {
  const server = await startPostgres(options);
  const sql = postgres({ ...server, max: 1, ...(ssl === undefined ? {} : { ssl }) });
  try {
    const rows = await sql.unsafe(text);
    return { value: Object.values(rows[0] ?? {})[0], log: server.log(), dataDir: server.dataDir };
  } finally {
    await sql.end();
    await server.stop();
    await server.stop();
  }
}

describe("startPostgres", () => {
  test("starts the embedded PostgreSQL 18, and leaves no file behind", async () => {
    const { value, dataDir } = await ask({}, undefined, "SHOW server_version");
    expect(value).toStartWith("18.");
    expect(existsSync(dataDir)).toBe(false);
  });

  test("takes settings, and shows the server's log", async () => {
    const { log } = await ask({ settings: { log_statement: "all" } }, undefined, "SELECT 'seen in the log'");
    expect(log).toContain("SELECT 'seen in the log'");
  });

  test("asks for the password as chosen, and offers TLS", async () => {
    const server = await startPostgres({ auth: "password", tls: true });
    try {
      expect(readFileSync(join(server.dataDir, "pg_hba.conf"), "utf8")).toMatch(/127\.0\.0\.1\/32\s+password/);
      const ssl = { ca: server.certificate ?? "", rejectUnauthorized: true };
      const sql = postgres({ ...server, max: 1, ssl });
      const [row] = await sql`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`;
      expect(row?.ssl).toBe(true);
      await sql.end();
      const refused = postgres({ ...server, password: "wrong", max: 1, ssl });
      await expect(refused`SELECT 1`.execute()).rejects.toThrow("password authentication failed");
      await refused.end();
    } finally {
      await server.stop();
    }
  });

  test("says why a server does not come up", async () => {
    await expect(startPostgres({ settings: { no_such_setting: "1" } })).rejects.toThrow("no_such_setting");
  });

  test("ends with its parent, however that dies", async () => {
    const program = `
      import { startPostgres } from ${JSON.stringify(join(import.meta.dir, "server.ts"))};
      const { port, dataDir } = await startPostgres();
      console.log(JSON.stringify({ port, dataDir }));
      await Bun.sleep(60_000);
    `;
    const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit" });
    const { value } = await child.stdout.getReader().read();
    const { dataDir } = JSON.parse(new TextDecoder().decode(value)) as { dataDir: string };
    expect(existsSync(dataDir)).toBe(true);
    child.kill("SIGKILL");
    await child.exited;
    const deadline = Date.now() + 8_000;
    while (existsSync(dataDir) && Date.now() < deadline) await Bun.sleep(20);
    expect(existsSync(dataDir)).toBe(false);
  }, 20_000);
});

describe("binaries in a folder that the server's account may not read", () => {
  test("are copied once to where it may", () => {
    const native = join(folder, "private/native");
    mkdirSync(native, { recursive: true });
    writeFileSync(join(native, "postgres"), "binary", { mode: 0o755 });
    chmodSync(folder, 0o755);
    chmodSync(join(folder, "private"), 0o700);
    expect(isReachableByOthers(join(native, "postgres"))).toBe(false);
    const copy = copyForOthers(native, join(folder, "copy"));
    expect(isReachableByOthers(join(copy, "postgres"))).toBe(true);
    expect(copyForOthers(native, join(folder, "copy"))).toBe(copy);
  });

  test("are not taken from a copy that others may write to", () => {
    mkdirSync(join(folder, "open"));
    chmodSync(join(folder, "open"), 0o777);
    expect(() => copyForOthers(folder, join(folder, "open"))).toThrow("is not trusted");
  });
});

import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const folder = mkdtempSync(join(tmpdir(), "sallyport-psql-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
// Of psql: it tells its version, or what it was told of TLS.
const program = `#!/bin/sh
if [ "$1" = --version ]; then echo "psql (PostgreSQL) $VERSION"; else echo "$PGSSLMODE $PGSSLROOTCERT"; fi
`;
writeFileSync(join(folder, "psql"), program, { mode: 0o755 });

async function tls(version: string, host: string, more: Record<string, string> = {}): Promise<string> {
  const line = ["psql", "--postgres", `${host}:6432`, "--user", "ann", "db"];
  const child = Bun.spawn([process.execPath, resolve(import.meta.dir, "../cli.ts"), ...line], {
    env: { PATH: `${folder}:/usr/bin:/bin`, HOME: folder, SALLYPORT_TOKEN: "t", VERSION: version, ...more },
    ...{ stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  });
  return (await new Response(child.stdout).text()).trim();
}

test("another machine's certificate is held against the system's authorities, as each libpq is told of them", async () => {
  expect(await tls("18.1", "gateway.example")).toBe("verify-full system");
  expect(await tls("16.10 (Debian 16.10-1)", "gateway.example")).toBe("verify-full system");
  const [mode, file = ""] = (await tls("15.20 (Debian 15.20-0+deb12u1)", "gateway.example")).split(" ");
  expect([mode, file === "system", file === "" || existsSync(file)]).toEqual(["verify-full", false, true]);
  expect(await tls("15.20", "gateway.example", { PGSSLROOTCERT: "own.crt" })).toBe("verify-full own.crt");
  expect(await tls("15.20", "127.0.0.1")).toBe("prefer");
}, 30_000);

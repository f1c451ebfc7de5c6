/** The connection to a target against a real PostgreSQL 15 and against servers that misbehave. */
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { hasPostgres15 } from "../../scripts/postgres/installed.ts";
import { encodeBackendMessage } from "./backend-encoder.ts";
import type { BackendMessage } from "./messages.ts";
import { ScramClient } from "./scram.ts";
import { simpleQuery } from "./simple-query.ts";
import { connectUpstream, type UpstreamOptions } from "./upstream.ts";
import { MessageWriter } from "./writer.ts";

const bin = process.env.POSTGRES_BIN ?? "/usr/lib/postgresql/15/bin";
const isRoot = process.getuid?.() === 0;
const id = (flag: string) => Number(spawnSync("id", [flag, "postgres"]).stdout.toString());
const owner = isRoot ? { uid: id("-u"), gid: id("-g") } : {};
const folder = mkdtempSync(join(tmpdir(), "sallyport-upstream-"));
const data = join(folder, "data");
let port = 0;
let ca = "";

function run(program: string, args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { cwd: folder, ...owner, stdio: ["ignore", "ignore", "pipe"] });
  if (status !== 0) throw new Error(`${program}: ${stderr}`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const found = (server.address() as AddressInfo).port;
  await new Promise((resolve) => server.close(resolve));
  return found;
}

const options = (more: Partial<UpstreamOptions>): UpstreamOptions => ({
  host: "127.0.0.1",
  port,
  tls: "disable",
  user: "scram_user",
  password: "sécret",
  database: "postgres",
  parameters: {},
  ...more,
});
const codeOf = async (promise: Promise<unknown>) => {
  try {
    await promise;
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return "none";
};

describe.skipIf(!hasPostgres15)("a real PostgreSQL", () => {
  beforeAll(async () => {
    if (isRoot) chownSync(folder, owner.uid as number, owner.gid as number);
    chmodSync(folder, 0o700);
    run(join(bin, "initdb"), ["-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]);
    const [key, certificate] = [join(data, "server.key"), join(data, "server.crt")];
    run(
      "openssl",
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=db.test"].concat([
        "-addext",
        "subjectAltName=DNS:db.test",
        "-keyout",
        key,
        "-out",
        certificate,
      ]),
    );
    chmodSync(key, 0o600);
    ca = readFileSync(certificate, "utf8");
    port = await freePort();
    appendFileSync(
      join(data, "postgresql.conf"),
      `\nlisten_addresses='127.0.0.1'\nport=${port}\nssl=on\nunix_socket_directories=''\nfsync=off\n`,
    );
    writeFileSync(
      join(data, "pg_hba.conf"),
      ["scram_user scram-sha-256", "md5_user md5", "clear_user password", "trust_user trust", "postgres trust"]
        .map((line) => `host all ${line.replace(" ", " 127.0.0.1/32 ")}\n`)
        .join(""),
    );
    run(join(bin, "pg_ctl"), ["-D", data, "-w", "-l", join(folder, "log"), "start"]);
    const admin = await connectUpstream(options({ user: "postgres" }));
    await simpleQuery(
      admin,
      `CREATE ROLE scram_user LOGIN PASSWORD 'sécret'; CREATE ROLE clear_user LOGIN PASSWORD 'sécret';
       CREATE ROLE trust_user LOGIN; SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'sécret'`,
    );
    admin.end();
  }, 30_000);
  afterAll(() => {
    spawnSync(join(bin, "pg_ctl"), ["-D", data, "-w", "-m", "immediate", "stop"], { cwd: folder, ...owner });
    rmSync(folder, { recursive: true, force: true });
  });

  for (const tls of ["disable", "require"] as const) {
    for (const user of ["scram_user", "md5_user", "clear_user", "trust_user"]) {
      test(`logs ${user} in with tls: ${tls}`, async () => {
        const connection = await connectUpstream(options({ user, tls, parameters: { application_name: "agent" } }));
        const rows = await simpleQuery(
          connection,
          "SELECT current_user, current_setting('application_name'), (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), NULL, 'é'",
        );
        expect(rows).toEqual([[user, "agent", tls === "disable" ? "f" : "t", null, "é"]]);
        expect(connection.parameters.get("client_encoding")).toBe("UTF8");
        connection.end();
      });
    }
  }
  test("binds SCRAM to the TLS channel", async () => {
    const started = spyOn(ScramClient.prototype, "start");
    const connection = await connectUpstream(options({ tls: "require" }));
    connection.end();
    expect(started.mock.contexts.map((client) => (client as ScramClient).mechanism)).toEqual(["SCRAM-SHA-256-PLUS"]);
    started.mockRestore();
  });
  test("verifies the certificate's chain and name", async () => {
    for (const accepted of [{ tls: "verify-ca" }, { tls: "verify-full", serverName: "db.test" }] as const) {
      const connection = await connectUpstream(options({ ...accepted, ca }));
      expect(await simpleQuery(connection, "SELECT 1")).toEqual([["1"]]);
      connection.end();
    }
    expect(await codeOf(connectUpstream(options({ tls: "verify-full", ca })))).toBe("upstream.tls");
    expect(await codeOf(connectUpstream(options({ tls: "verify-full", serverName: "other.test", ca })))).toBe(
      "upstream.tls",
    );
    expect(await codeOf(connectUpstream(options({ tls: "verify-ca" })))).toBe("upstream.tls");
    expect(await codeOf(connectUpstream(options({ tls: "verify-full", serverName: "db.test" })))).toBe("upstream.tls");
  });
  test("refuses a wrong password, a missing one and an unknown database, and shows no secret", async () => {
    for (const user of ["scram_user", "md5_user", "clear_user"]) {
      expect(await codeOf(connectUpstream(options({ user, password: "wrong" })))).toBe("upstream.authentication");
    }
    const { password: _, ...without } = options({});
    expect(await codeOf(connectUpstream(without))).toBe("upstream.authentication");
    expect(await codeOf(connectUpstream(options({ database: "nowhere" })))).toBe("upstream.unreachable");
    const error = await connectUpstream(options({ password: "wrong" })).catch((fault: Error) => fault);
    expect(String(error)).not.toMatch(/scram_user|wrong/);
  });
  test("cancels what runs, in clear and in TLS", async () => {
    for (const tls of ["disable", "require"] as const) {
      const connection = await connectUpstream(options({ tls }));
      const started = performance.now();
      const sleeping = codeOf(simpleQuery(connection, "SELECT pg_sleep(20)"));
      await Bun.sleep(100);
      await connection.cancel();
      expect(await sleeping).toBe("upstream.protocol");
      expect(performance.now() - started).toBeLessThan(5_000);
      expect(await simpleQuery(connection, "SELECT 1")).toEqual([["1"]]);
      connection.end();
    }
  });
  test("reads a large result and is told when the connection closes", async () => {
    const connection = await connectUpstream(options({ tls: "require" }));
    const rows = await simpleQuery(connection, "SELECT repeat('x', 100000) FROM generate_series(1, 50)");
    expect(rows.every(([text]) => text?.length === 100_000)).toBe(true);
    const closed = new Promise<void>((resolve) => connection.onClose(() => resolve()));
    simpleQuery(connection, "SELECT pg_terminate_backend(pg_backend_pid())").catch(() => {});
    await closed;
  });
});

/** A server that answers the n-th chunk it gets with the n-th answer. */
async function hostile(answers: (Buffer | "close")[], use: (port: number) => Promise<void>): Promise<void> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    let turn = 0;
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", () => {
      const answer = answers[turn++];
      if (answer === "close") socket.destroy();
      else if (answer) socket.write(answer);
    });
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  try {
    await use((server.address() as AddressInfo).port);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}
const bytes = (...messages: BackendMessage[]) => {
  const writer = new MessageWriter();
  for (const message of messages) encodeBackendMessage(writer, message);
  return writer.take();
};
const sasl = bytes({ type: "AuthenticationSASL", mechanisms: ["SCRAM-SHA-256"] });
const notice: BackendMessage = { type: "NoticeResponse", fields: { M: "x" } };
const readyAs = (...version: string[]) =>
  bytes(
    { type: "AuthenticationOk" },
    ...version.map((value): BackendMessage => ({ type: "ParameterStatus", name: "server_version", value })),
    { type: "ReadyForQuery", status: "I" },
  );

describe("a target that misbehaves", () => {
  const cases: [string, Partial<UpstreamOptions>, (Buffer | "close")[], string][] = [
    ["has no TLS where TLS is required", { tls: "require" }, [Buffer.from("N")], "upstream.tls"],
    ["sends bytes with its answer to SSLRequest", { tls: "require" }, [Buffer.from("Sx")], "upstream.tls"],
    [
      "speaks something else than TLS after S",
      { tls: "require" },
      [Buffer.from("S"), Buffer.from("hello")],
      "upstream.tls",
    ],
    ["closes at once", {}, ["close"], "upstream.unreachable"],
    ["says ok in the midst of SASL", {}, [sasl, bytes({ type: "AuthenticationOk" })], "upstream.protocol"],
    [
      "asks for clear text after SASL began",
      {},
      [sasl, bytes({ type: "AuthenticationCleartextPassword" })],
      "upstream.protocol",
    ],
    ["is ready before it authenticated", {}, [bytes({ type: "ReadyForQuery", status: "I" })], "upstream.protocol"],
    ["sends rows before it is ready", {}, [bytes({ type: "DataRow", fields: [] })], "upstream.protocol"],
    ["asks for Kerberos", {}, [bytes({ type: "AuthenticationUnsupported", code: 7 })], "upstream.authentication"],
    [
      "offers no known SASL mechanism",
      {},
      [bytes({ type: "AuthenticationSASL", mechanisms: ["X"] })],
      "upstream.authentication",
    ],
    ["never stops sending notices", {}, [bytes(...Array<BackendMessage>(1_001).fill(notice))], "upstream.protocol"],
    ["announces a huge message", {}, [Buffer.from("5200ffffff", "hex")], "upstream.protocol"],
    [
      "answers with a nonce that is not ours",
      {},
      [sasl, bytes({ type: "AuthenticationSASLContinue", data: Buffer.from("r=x,s=AAAA,i=2000000") })],
      "upstream.authentication",
    ],
  ];
  for (const [name, more, answers, code] of cases) {
    test(`is refused when it ${name}`, async () => {
      await hostile(answers, async (hostilePort) => {
        expect(await codeOf(connectUpstream(options({ ...more, port: hostilePort })))).toBe(code);
      });
    });
  }
  for (const version of [["14.23"], ["9.6.24"], ["19beta1"], ["180001"], ["CockroachDB"], [""], []]) {
    test(`is refused as PostgreSQL ${version[0] ?? "of no version"}`, async () => {
      await hostile([readyAs(...version)], async (hostilePort) => {
        expect(await codeOf(connectUpstream(options({ port: hostilePort })))).toBe("upstream.version");
      });
    });
  }
  for (const version of ["15.0", "16beta1", "18.4 (Debian 18.4-1.pgdg12+1)"]) {
    test(`is taken as PostgreSQL ${version}`, async () => {
      await hostile([readyAs(version)], async (hostilePort) => {
        (await connectUpstream(options({ port: hostilePort }))).destroy();
      });
    });
  }
  test("is given up when it does not answer in time", async () => {
    using _ = loweredLimits({ upstreamConnectTimeoutMs: 100 });
    await hostile([], async (hostilePort) => {
      const from = performance.now();
      expect(await codeOf(connectUpstream(options({ port: hostilePort })))).toBe("upstream.unreachable");
      expect(performance.now() - from).toBeLessThan(2_000);
    });
  });
  test("may send a message as long as the limit before it is ready, and not a byte longer", async () => {
    using _ = loweredLimits({ upstreamStartupMessageBytesMax: 100 });
    const announced = (length: number) => bytes({ type: "NoticeResponse", fields: { M: "x".repeat(length - 7) } });
    await hostile([announced(101)], async (hostilePort) => {
      expect(await codeOf(connectUpstream(options({ port: hostilePort })))).toBe("upstream.protocol");
    });
    await hostile([Buffer.concat([announced(100), readyAs("15.13 (Debian 15.13-0+deb12u1)")])], async (hostilePort) => {
      (await connectUpstream(options({ port: hostilePort }))).destroy();
    });
  });
  test("is given up when the caller abandons the connection", async () => {
    await hostile([], async (hostilePort) => {
      const signal = AbortSignal.timeout(50);
      expect(await codeOf(connectUpstream(options({ port: hostilePort, signal })))).toBe("upstream.unreachable");
    });
  });
  test("may send a notice together with its first ReadyForQuery", async () => {
    await hostile([Buffer.concat([readyAs("18.4"), bytes(notice)])], async (hostilePort) => {
      const connection = await connectUpstream(options({ port: hostilePort }));
      const chunk = await new Promise<Buffer>((resolve) => connection.onData(resolve));
      expect(chunk).toEqual(bytes(notice));
      connection.destroy();
    });
  });
});

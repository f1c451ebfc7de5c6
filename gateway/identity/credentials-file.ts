/**
 * Where the CLI keeps what a login gave: one file an issuer and client under $XDG_CONFIG_HOME/sallyport, readable by
 * its owner only, replaced in one step so that a reader never sees half of one.
 */
import { Database } from "bun:sqlite";
import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";

const credentials = z.object({
  issuer: z.string().min(1),
  clientId: z.string().min(1),
  scope: z.string(),
  /** Which of the issuer's tokens `token` is. */
  profile: z.enum(["id-token", "access-token"]),
  token: z.string().min(1),
  expiresAtMs: z.number(),
  refreshToken: z.string().min(1).optional(),
});

export type Credentials = z.infer<typeof credentials>;

export type Environment = Readonly<Record<string, string | undefined>>;

export function credentialsFolder(environment: Environment): string {
  const configHome = environment.XDG_CONFIG_HOME;
  // The XDG specification: a relative path is to be ignored.
  const base = configHome?.startsWith("/") ? configHome : join(environment.HOME || homedir(), ".config");
  return join(base, "sallyport");
}

/** E.g. `idp.example-3f2a91bc.json`: readable, and distinct by issuer and client. */
export function credentialsPath(environment: Environment, issuer: string, clientId: string): string {
  const digest = createHash("sha256").update(`${issuer}\n${clientId}`).digest("hex").slice(0, 16);
  const host = new URL(issuer).hostname.replace(/[^A-Za-z0-9.-]/g, "_");
  return join(credentialsFolder(environment), `${host}-${digest}.json`);
}

export async function writeCredentials(environment: Environment, entry: Credentials): Promise<string> {
  const path = credentialsPath(environment, entry.issuer, entry.clientId);
  const folder = credentialsFolder(environment);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  const temporary = `${path}.${randomBytes(8).toString("hex")}.tmp`;
  try {
    // "wx" never follows a link that someone else put there.
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(entry, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return path;
}

/** Undefined where there is none, or where the file is not one of ours. */
export async function readCredentials(path: string): Promise<Credentials | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return credentials.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** As long as a renewal that hangs at each of its requests. */
const lockWaitMs = 6 * limits.identityFetchTimeoutMs;

/**
 * Runs one action at a time for a file of credentials, among all processes: a refresh token is often good for one use,
 * and using it twice can end the login. The lock is the operating system's, by way of SQLite, and goes with the process
 * however it ends: there is no old one that two could take over at once.
 */
export async function withCredentialsLock<Result>(path: string, action: () => Promise<Result>): Promise<Result> {
  const lockPath = `${path}.lock`;
  const lock = new Database(lockPath, { create: true });
  try {
    await chmod(lockPath, 0o600);
    for (const until = Date.now() + lockWaitMs; !isTaken(lock); await Bun.sleep(50)) {
      if (Date.now() < until) continue;
      throw new GatewayError(
        "api.unauthenticated",
        `Another process renews the login and does not end: ${lockPath} is locked.`,
      );
    }
    return await action();
  } finally {
    lock.close();
  }
}

function isTaken(lock: Database): boolean {
  try {
    lock.run("begin exclusive");
    return true;
  } catch (cause) {
    if ((cause as { code?: string }).code === "SQLITE_BUSY") return false;
    throw cause;
  }
}

export async function listCredentials(environment: Environment): Promise<readonly Credentials[]> {
  const folder = credentialsFolder(environment);
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const entries: Credentials[] = [];
  for (const name of names.filter((one) => one.endsWith(".json")).sort()) {
    const entry = await readCredentials(join(folder, name));
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

/**
 * One gateway writes a store that is a file: a second would take the first one's sessions for interrupted ones, and seal
 * them while they go on. The lock is the operating system's, by way of SQLite, and goes with the process however it ends.
 */
import { Database } from "bun:sqlite";
import { accessSync, chmodSync, closeSync, constants, existsSync, lstatSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { GatewayError } from "../errors.ts";
import { realPath } from "./file-path.ts";

/**
 * @param path of the store, which need not exist yet. @returns what gives the lock back
 * @throws GatewayError store.unavailable while another process, or another part of this one, has it
 */
export function lockFile(path: string): () => void {
  makeFolder(dirname(path));
  // A link to a store that is not there yet would have another lock once it is.
  if (!existsSync(path) && lstatSync(path, { throwIfNoEntry: false }) !== undefined) makeLinked(path);
  const lockPath = `${realPath(path)}.lock`;
  const lock = openLock(lockPath);
  try {
    // Who only asks (`isLocked`) has it for a moment.
    lock.run("pragma busy_timeout = 500");
    lock.run("begin exclusive");
  } catch (cause) {
    lock.close();
    if ((cause as { code?: string }).code !== "SQLITE_BUSY") throw cause;
    throw new GatewayError("store.unavailable", `Another gateway writes the store ${path}.`, {
      hint: "Give each a store of its own, or a shared one, or let the other end first: it drains for shutdown.drain.",
    });
  }
  return () => lock.close();
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const why = (cause as Error).message;
    throw new GatewayError("store.unavailable", `The store's folder ${folder} cannot be made: ${why}`, { cause });
  }
}

function openLock(path: string): Database {
  try {
    make(path);
    chmodSync(path, 0o600);
    accessSync(path, constants.W_OK);
    return new Database(path);
  } catch (cause) {
    const why = (cause as Error).message;
    throw new GatewayError("store.unavailable", `The store's lock ${path} cannot be written: ${why}`, { cause });
  }
}

/** One that is there is not opened: to close it would give back the lock that this process may have of it by SQLite. */
function make(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
  }
}

function makeLinked(path: string): void {
  try {
    closeSync(openSync(path, "a", 0o600));
  } catch (cause) {
    throw new GatewayError("store.unavailable", `${path} is a link to where no store can be made.`, { cause });
  }
}

/** Whether a gateway writes it now. @param path of the store */
export function isLocked(path: string): boolean {
  const lockPath = `${realPath(path)}.lock`;
  if (!existsSync(lockPath)) return false;
  const lock = new Database(lockPath, { readonly: true });
  try {
    lock.query("select 1 from sqlite_schema").all();
    return false;
  } catch (cause) {
    if ((cause as { code?: string }).code !== "SQLITE_BUSY") throw cause;
    return true;
  } finally {
    lock.close();
  }
}

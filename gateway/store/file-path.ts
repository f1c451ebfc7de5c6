/** Where a store lies that is a file. */
import { closeSync, existsSync, openSync, readSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { GatewayError } from "../errors.ts";

/** Of a store that is a file: where it lies. */
export function filePath(url: string): string | undefined {
  return url.startsWith("file:") ? url.slice("file:".length) : undefined;
}

/** Of a store that is a file: the key that signs its seals, which the gateway makes where it is configured none. */
export function keyBeside(url: string): string | undefined {
  const path = filePath(url);
  return path && `${path}.key`;
}

/** By whatever name a store is reached: where its file lies, or will be made. */
export function realPath(path: string): string {
  if (existsSync(path)) return realpathSync(path);
  const folder = dirname(path);
  return existsSync(folder) ? join(realpathSync(folder), basename(path)) : path;
}

/** @throws GatewayError store.unavailable where nothing is, or no file */
export function requireStoreFile(path: string): void {
  if (!existsSync(path)) throw new GatewayError("store.unavailable", `There is no store at ${path}.`);
  // A pipe would be waited for.
  if (!statSync(path).isFile()) throw new GatewayError("store.unavailable", `${path} is no store: no file.`);
}

/** Of a store that is a file, by its path: where `strict` has first what it writes. */
export function journalPaths(path: string): readonly [string, string] {
  const real = realPath(path);
  return [`${real}.recording-0`, `${real}.recording-1`];
}

const databaseStart = "SQLite format 3\0";

/** Nothing, which is made, or a database. @throws GatewayError store.unavailable for what else may lie there */
export function requireStorePath(path: string): void {
  const unavailable = (what: string) =>
    new GatewayError("store.unavailable", `store.url: ${what}.`, {
      hint: "Give store.url a path of its own; the gateway makes the file.",
    });
  if (!existsSync(path)) {
    let folder = dirname(path);
    while (!existsSync(folder)) folder = dirname(folder);
    if (statSync(folder).isDirectory()) return;
    throw unavailable(`${path} cannot be made: ${folder} is no folder`);
  }
  // A pipe would be waited for.
  if (!statSync(path).isFile()) throw unavailable(`${path} exists and is no store: no file`);
  const file = openSync(path, "r");
  try {
    const start = Buffer.alloc(databaseStart.length);
    const length = readSync(file, start);
    if (length > 0 && start.toString("latin1") !== databaseStart)
      throw unavailable(`${path} exists and is no store: no SQLite database`);
  } finally {
    closeSync(file);
  }
}

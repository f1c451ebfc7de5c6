/**
 * How a commit is written: for each session that said something, a chunk of events and where the session now stands.
 * A file goes through libSQL's synchronous driver, whose statements stay prepared: its client prepares them anew for
 * each batch, at six times the processor's time. A shared store takes one request, of as few statements as there can be.
 */
import { fdatasync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { promisify } from "node:util";
import type { InValue } from "@libsql/client";
import FileDatabase from "libsql";
import { applyPragmas, type Database, type DatabaseOptions } from "../store/database.ts";
import { filePath, realPath } from "../store/file-path.ts";
import { sessions } from "../store/schema.ts";
import type { ChunkRow, SessionRow, Written } from "./chunk.ts";

export interface CommitWriter {
  /** In one transaction. */
  write(batch: readonly Written[]): void | Promise<void>;
  /** Resolves once what was written is on disk. Rejects as `check` does. */
  sync(): Promise<void>;
  /** Rejects where nobody will read what was written. */
  check(): Promise<void>;
}

const insertChunk = "insert into recording_chunks (session, first, last, codec, data) values";
const chunkValues = ({ session, first, last, codec, data }: ChunkRow): InValue[] => [session, first, last, codec, data];

export async function openCommit(db: Database, options: DatabaseOptions): Promise<CommitWriter> {
  const path = filePath(options.url);
  return path === undefined ? requestCommit(db) : fileCommit(db, path);
}

function insertRow(db: Database, written: Written, row: SessionRow): { sql: string; args: InValue[] } {
  const { events, head, commands, verdicts } = written;
  const { sql, params } = db
    .insert(sessions)
    .values({ ...row, events, head, commands, verdicts })
    .toSQL();
  return { sql, args: params as InValue[] };
}

/** How SQLite's log begins; one that holds nothing may be empty. */
const logMagics = [0x377f0682, 0x377f0683];

/** @param path of the store's file */
export async function fileCommit(db: Database, path: string): Promise<CommitWriter> {
  const file = new FileDatabase(path);
  // In strict too: there the journal is on disk before a command goes on.
  await applyPragmas((pragma) => file.exec(pragma), "group");
  // Pages, 16 MB: a checkpoint keeps this thread waiting, whatever its size.
  file.exec("pragma wal_autocheckpoint = 4000");
  const begin = file.prepare("begin immediate");
  const end = file.prepare("commit");
  const chunkInsert = file.prepare(`${insertChunk} (?, ?, ?, ?, ?)`);
  const update = file.prepare("update sessions set events = ?, head = ?, commands = ?, verdicts = ? where id = ?");
  const write = (batch: readonly Written[]) => {
    begin.run();
    try {
      for (const written of batch) {
        const { chunk, events, head, commands, verdicts } = written;
        if (written.row) {
          const { sql, args } = insertRow(db, written, written.row);
          file.prepare(sql).run(...args);
        } else update.run(events, head, commands, verdicts, chunk.session);
        chunkInsert.run(...chunkValues(chunk));
      }
      end.run();
    } catch (error) {
      if (file.inTransaction) file.exec("rollback");
      throw error;
    }
  };
  // The log stays the same file as long as a connection is open, unless somebody takes it away.
  const logPath = `${realPath(path)}-wal`;
  const log = openSync(logPath, "r+");
  const { ino } = fstatSync(log);
  const syncFile = promisify(fdatasync);
  const magic = Buffer.alloc(4);
  const check = async () => {
    if (statSync(logPath, { throwIfNoEntry: false })?.ino !== ino) throw new Error(`${logPath} was taken away`);
    // SQLite goes on behind where it was, and nobody reads a log without its beginning.
    const hasBegun = readSync(log, magic, 0, magic.length, 0) > 0;
    if (hasBegun && !logMagics.includes(magic.readUInt32BE())) throw new Error(`${logPath} was cut`);
  };
  const sync = async () => {
    await syncFile(log);
    await check();
  };
  return { write, sync, check };
}

/** For a store that is reached over the network. */
export function requestCommit(db: Database): CommitWriter {
  const write = async (batch: readonly Written[]) => {
    const statements = batch.flatMap((written) => (written.row ? [insertRow(db, written, written.row)] : []));
    const chunkArgs = batch.flatMap(({ chunk }) => chunkValues(chunk));
    statements.push({ sql: `${insertChunk} ${tuples(batch.length)}`, args: chunkArgs });
    const known = batch.filter(({ row }) => row === undefined);
    if (known.length > 0) {
      const sql = `update sessions set events = v.column2, head = v.column3, commands = v.column4, verdicts = v.column5
        from (values ${tuples(known.length)}) as v where sessions.id = v.column1`;
      const args = known.flatMap((written): InValue[] => {
        const { chunk, events, head, commands, verdicts } = written;
        return [chunk.session, events, head, commands, verdicts];
      });
      statements.push({ sql, args });
    }
    await db.$client.batch(statements, "write");
  };
  // The server answers once it has it.
  return { write, sync: async () => undefined, check: async () => undefined };
}

const tuples = (count: number) => Array.from({ length: count }, () => "(?, ?, ?, ?, ?)").join(", ");

/**
 * What `strict` waits for, where the store is a file: events are on disk here before a command goes on, many commands a
 * sync, and reach the store itself in larger commits behind it. Two files take turns: one is begun again only once the
 * store has, on disk, all that it held. `recovery.ts` reads them after a kill or a power cut.
 *
 *   record:  magic | crc32 of what follows | generation | sequence | length | lines     (5 * UInt32, big-endian)
 *   line:    session \t number of the event \t event as JSON \n
 *
 * The generation grows by one each time that a file is begun, the sequence by one each record.
 */
import { closeSync, fdatasync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { journalPaths } from "../store/file-path.ts";

const magic = 0x53505731;
const headerBytes = 20;
/** Of a header, where what its checksum covers begins. */
const checkedFrom = 8;

export interface JournalOptions {
  /** Of the store. */
  readonly path: string;
  /** Resolves once the store has, on disk, all that was appended so far. */
  persist(): Promise<void>;
  /** It could not be written: its owner ends it by `fail`. */
  onFailure(error: unknown): void;
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #files: readonly { readonly path: string; readonly fd: number }[];
  #current = 0;
  #generation = 1;
  #sequence = 0;
  #at = 0;
  /** The store has what the other file holds. */
  #otherIsFree: Promise<void> = Promise.resolve();
  #lines: string[] = [];
  #length = 0;
  /** Of who waits for the lines above. */
  #next: PromiseWithResolvers<void> | undefined;
  /** Of who waits for the sync that is under way, or for what was written last. */
  #underWay: PromiseWithResolvers<void> | undefined;
  #scheduled = false;
  #failure: unknown;
  /** One that was made for a batch, kept for the next ones. */
  #record = Buffer.allocUnsafeSlow(headerBytes + limits.journalBatchLength);

  /** Makes both files: what there was has been recovered. @throws the system's error where they cannot be made */
  constructor(options: JournalOptions) {
    this.#options = options;
    const blank = Buffer.alloc(limits.journalFileBytes);
    this.#files = journalPaths(options.path).map((path) => {
      // Never over one that has not been recovered.
      const fd = openSync(path, "wx", 0o600);
      // A file that does not grow takes half the time to sync.
      writeSync(fd, blank);
      fsyncSync(fd);
      return { path, fd };
    });
    const folder = openSync(dirname(this.#files[0]?.path ?? options.path), "r");
    fsyncSync(folder);
    closeSync(folder);
  }

  append(line: string): void {
    this.#lines.push(line);
    this.#length += line.length;
    if (this.#length >= limits.journalBatchLength) this.#schedule();
  }

  /** Undefined where all that was appended is on disk; else resolves when it is. @throws what it failed of */
  synced(): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#lines.length === 0) return this.#underWay?.promise;
    this.#schedule();
    this.#next ??= Promise.withResolvers();
    return this.#next.promise;
  }

  /** Removes it, as the store has all that was appended. */
  async close(): Promise<void> {
    await this.#underWay?.promise.catch(() => undefined);
    this.#failure ??= new GatewayError("internal", "the journal is closed");
    for (const { path, fd } of this.#files) {
      closeSync(fd);
      rmSync(path, { force: true });
    }
  }

  /** What the event loop has at hand shares a sync, and so does what comes while one is under way. */
  #schedule(): void {
    if (this.#scheduled || this.#underWay !== undefined || this.#failure !== undefined) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#failure !== undefined) return;
      this.#underWay = this.#next ?? Promise.withResolvers();
      this.#underWay.promise.catch(() => undefined);
      this.#next = undefined;
      if (this.#at < limits.journalFileBytes) this.#write();
      else this.#turn();
    });
  }

  /** The other file is begun, once the store has what it held. */
  #turn(): void {
    const began = () => {
      this.#current = 1 - this.#current;
      this.#generation += 1;
      this.#sequence = 0;
      this.#at = 0;
      // By when this one is full, the store should have what the full one holds.
      this.#otherIsFree = this.#options.persist();
      this.#otherIsFree.catch(() => undefined);
      this.#write();
    };
    this.#otherIsFree.then(began).catch((error) => this.#options.onFailure(error));
  }

  #write(): void {
    const bytes = this.#encode(this.#lines.join(""));
    this.#lines = [];
    this.#length = 0;
    const { fd } = this.#files[this.#current] as { fd: number };
    try {
      for (let written = 0; written < bytes.length; ) {
        written += writeSync(fd, bytes, written, bytes.length - written, this.#at + written);
      }
    } catch (error) {
      return this.#options.onFailure(error);
    }
    this.#at += bytes.length;
    // In another thread: a slow disk keeps nobody waiting but who waits for it.
    fdatasync(fd, (error) => {
      if (error) return this.#options.onFailure(error);
      const done = this.#underWay;
      this.#underWay = undefined;
      done?.resolve();
      if (this.#next !== undefined || this.#length >= limits.journalBatchLength) this.#schedule();
    });
  }

  #encode(lines: string): Buffer {
    const needed = headerBytes + lines.length * 3;
    if (needed > this.#record.length && headerBytes + Buffer.byteLength(lines) > this.#record.length) {
      // Longer than most: not kept.
      return record(
        Buffer.allocUnsafe(headerBytes + Buffer.byteLength(lines)),
        this.#generation,
        this.#sequence++,
        lines,
      );
    }
    return record(this.#record, this.#generation, this.#sequence++, lines);
  }

  /** Whoever waits is told, and nothing more is taken. */
  fail(error: unknown): void {
    this.#failure ??= error;
    this.#underWay?.reject(error);
    this.#next?.reject(error);
  }
}

export interface JournalRecord {
  readonly generation: number;
  readonly sequence: number;
  readonly lines: string;
}

/** Of one of the two files: the records of its latest turn, as far as they are whole. */
export function recordsOf(file: Buffer): JournalRecord[] {
  const records: JournalRecord[] = [];
  for (let at = 0; at + headerBytes <= file.length && file.readUInt32BE(at) === magic; ) {
    const [generation, sequence] = [file.readUInt32BE(at + 8), file.readUInt32BE(at + 12)];
    const end = at + headerBytes + file.readUInt32BE(at + 16);
    if (end > file.length || sequence !== records.length) break;
    if (generation !== (records[0]?.generation ?? generation)) break;
    if (Bun.hash.crc32(file.subarray(at + checkedFrom, end)) !== file.readUInt32BE(at + 4)) break;
    records.push({ generation, sequence, lines: file.toString("utf8", at + headerBytes, end) });
    at = end;
  }
  return records;
}

/** @returns the part of `into` that the record takes */
function record(into: Buffer, generation: number, sequence: number, lines: string): Buffer {
  const length = into.write(lines, headerBytes);
  const end = headerBytes + length;
  into.writeUInt32BE(magic, 0);
  into.writeUInt32BE(generation, 8);
  into.writeUInt32BE(sequence, 12);
  into.writeUInt32BE(length, 16);
  const bytes = into.subarray(0, end);
  into.writeUInt32BE(Bun.hash.crc32(bytes.subarray(checkedFrom)), 4);
  return bytes;
}

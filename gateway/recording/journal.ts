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
import {
  closeSync,
  fdatasync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { journalPaths } from "../store/file-path.ts";
import { writeLine } from "./line.ts";
import { Utf8Writer } from "./utf8-writer.ts";

const magic = 0x53505731;
const headerBytes = 20;
/** Of a header, where what its checksum covers begins. */
const checkedFrom = 8;
const keptBytesMax = 4 * limits.journalBatchBytes;

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
  readonly #files: readonly JournalFile[];
  #current = 0;
  #generation = 1;
  #sequence = 0;
  #at = 0;
  /** The store has what the other file holds. */
  #otherIsFree: Promise<void> = Promise.resolve();
  /** A record that is not written: room for its header, and lines. */
  #record = newRecord();
  /** Of the lines whose sync is under way. */
  #syncing = 0;
  /** Of who waits for the record above. */
  #next: PromiseWithResolvers<void> | undefined;
  /** Of who waits for the sync that is under way. */
  #underWay: PromiseWithResolvers<void> | undefined;
  /** From when a write is due to the end of its sync. */
  #isWriting = false;
  #failure: unknown;

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
      return { path, fd, ino: fstatSync(fd).ino, bytes: blank.length };
    });
    const folder = openSync(dirname(this.#files[0]?.path ?? options.path), "r");
    fsyncSync(folder);
    closeSync(folder);
  }

  /** Of what is not known to be on disk, in bytes. */
  get length(): number {
    return this.#syncing + this.#waiting;
  }

  get #waiting(): number {
    return this.#record.length - headerBytes;
  }

  /** @param json the event, with its line feed */
  append(session: string, event: number, json: Uint8Array): void {
    writeLine(this.#record, session, event, json);
    if (this.length >= limits.journalBatchBytes) this.#schedule();
  }

  /** Undefined where all that was appended is on disk; else resolves when it is. @throws what it failed of */
  synced(): Promise<void> | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#waiting === 0) return this.#underWay?.promise;
    this.#schedule();
    this.#next ??= newWait();
    return this.#next.promise;
  }

  /** Removes it: nothing is appended any more, and the store has all that was. */
  async close(): Promise<void> {
    await this.synced();
    this.#failure = new GatewayError("internal", "the journal is closed");
    for (const { path, fd } of this.#files) {
      closeSync(fd);
      rmSync(path, { force: true });
    }
  }

  get #file(): JournalFile {
    return this.#files[this.#current] as JournalFile;
  }

  /** What the event loop has at hand shares a sync, and so does what comes while one is under way. */
  #schedule(): void {
    if (this.#isWriting || this.#failure !== undefined) return;
    this.#isWriting = true;
    setImmediate(() => {
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
      // What a record longer than the file has made of it.
      ftruncateSync(this.#file.fd, this.#file.bytes);
      // By when this one is full, the store should have what the full one holds.
      this.#otherIsFree = this.#options.persist();
      this.#otherIsFree.catch(() => undefined);
      this.#write();
    };
    this.#otherIsFree.then(began).catch((error) => this.#options.onFailure(error));
  }

  #write(): void {
    if (this.#failure !== undefined) return;
    const file = this.#file;
    // Cut before, it would be long enough again behind the record that fills it; behind others that shows afterwards.
    const fills = this.#at + this.#record.length >= file.bytes;
    const lost = fills ? faultOf(file, this.#at) : undefined;
    if (lost) return this.#options.onFailure(lost);
    // Who waits from here on waits for the next: these are the lines that this one takes.
    const underWay = this.#next ?? newWait();
    this.#underWay = underWay;
    this.#next = undefined;
    const bytes = withHeader(this.#record.written(), this.#generation, this.#sequence++);
    const { fd } = file;
    try {
      for (let written = 0; written < bytes.length; ) {
        written += writeSync(fd, bytes, written, bytes.length - written, this.#at + written);
      }
    } catch (error) {
      return this.#options.onFailure(error);
    }
    this.#at += bytes.length;
    this.#syncing = this.#waiting;
    // One that was made for a batch is kept for the next ones.
    if (this.#record.capacity <= keptBytesMax) this.#record.truncate(headerBytes);
    else this.#record = newRecord();
    // In another thread: a slow disk keeps nobody waiting but who waits for it.
    fdatasync(fd, (error) => {
      const fault = error ?? faultOf(file, this.#at);
      if (fault) return this.#options.onFailure(fault);
      this.#isWriting = false;
      this.#syncing = 0;
      this.#underWay = undefined;
      underWay.resolve();
      if (this.#next !== undefined || this.length >= limits.journalBatchBytes) this.#schedule();
    });
  }

  /** Whoever waits is told, and nothing more is taken. */
  fail(error: unknown): void {
    this.#failure ??= error;
    this.#underWay?.reject(error);
    this.#next?.reject(error);
  }
}

interface JournalFile {
  readonly path: string;
  readonly fd: number;
  readonly ino: number;
  /** As it was made; it becomes no shorter. */
  readonly bytes: number;
}

/**
 * What is on disk in a file that was taken away or cut is found by nobody.
 * @param end of what is written in it
 */
function faultOf({ path, ino, bytes }: JournalFile, end: number): Error | undefined {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found?.ino !== ino) return new Error(`${path} was taken away`);
    return found.size < Math.max(bytes, end) ? new Error(`${path} was cut`) : undefined;
  } catch (error) {
    return error as Error;
  }
}

const newRecord = () => new Utf8Writer().raw(Buffer.alloc(headerBytes));

function newWait(): PromiseWithResolvers<void> {
  const wait = Promise.withResolvers<void>();
  // There may be nobody whom a failure has to be told.
  wait.promise.catch(() => undefined);
  return wait;
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

/** @param record its header's bytes are written, its lines are there */
function withHeader(record: Buffer, generation: number, sequence: number): Buffer {
  record.writeUInt32BE(magic, 0);
  record.writeUInt32BE(generation, 8);
  record.writeUInt32BE(sequence, 12);
  record.writeUInt32BE(record.length - headerBytes, 16);
  record.writeUInt32BE(Bun.hash.crc32(record.subarray(checkedFrom)), 4);
  return record;
}

/** The rows that a recording's events are kept in. */
import { zstdDecompressSync } from "node:zlib";
import { limits } from "../limits.ts";
import type { StoredChunk } from "../store/queries.ts";
import type { chunks, sessions } from "../store/schema.ts";

export type SessionRow = typeof sessions.$inferInsert;
export type ChunkRow = typeof chunks.$inferInsert;

/** One session's part of a commit. */
export interface Written {
  readonly chunk: ChunkRow;
  /** The session's row where it has none yet; its head and counts are the ones below. */
  readonly row: SessionRow | undefined;
  readonly events: number;
  readonly head: Buffer;
  readonly commands: number;
  /** ",allow,deny," */
  readonly verdicts: string;
}

/** Few events gain less than compressing them costs; a higher level makes lines so alike no smaller. */
const compressBytesMin = 4_096;

/**
 * @param first number of the first of these events
 * @param lines each of them as JSON, with its line feed
 */
export function chunkOf(session: string, first: number, events: number, lines: Buffer): ChunkRow {
  const compressed = lines.length >= compressBytesMin ? Bun.zstdCompressSync(lines, { level: 1 }) : undefined;
  const smaller = compressed !== undefined && compressed.length < lines.length;
  return {
    session,
    first,
    last: first + events - 1,
    codec: smaller ? "zstd" : "raw",
    data: smaller ? Buffer.from(compressed) : lines,
  };
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The events in one, as JSON. @throws Error where no gateway has written it so: it is read in one way, or not at all */
export function linesOf({ first, last, codec, data }: StoredChunk): string[] {
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last)) throw new Error("its chunk has no numbers");
  const lines = strictUtf8.decode(decoded(codec, bytesOf(data))).split("\n");
  if (lines.pop() !== "" || lines.length !== last - first + 1)
    throw new Error("its chunk has other lines than it says");
  return lines;
}

function bytesOf(data: unknown): Uint8Array {
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw data === null ? tooLarge() : new Error("its chunk has no bytes");
}

function decoded(codec: string, bytes: Uint8Array): Uint8Array {
  switch (codec) {
    case "raw":
      return bytes;
    case "zstd":
      return decompressed(bytes);
    default:
      throw new Error("its chunk is encoded in no known way");
  }
}

/** What a few bytes would become gigabytes of is given up on the way. */
function decompressed(bytes: Uint8Array): Uint8Array {
  try {
    return zstdDecompressSync(bytes, { maxOutputLength: limits.chunkBytesMax });
  } catch (error) {
    throw (error as { code?: string }).code === "ERR_BUFFER_TOO_LARGE" ? tooLarge() : error;
  }
}

const tooLarge = () => new Error("its chunk is larger than any that is written");

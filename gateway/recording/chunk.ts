/** The rows that a recording's events are kept in. */
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

/** The SHA-256 chain over a session's event lines: hash_n = sha256(hash_{n-1} || line), from a genesis over its id. */
import { createHash } from "node:crypto";

export function genesis(session: string): Buffer {
  return createHash("sha256").update("sallyport.recording.v1\0").update(session).digest();
}

/** @param line one event as JSON, UTF-8, without its line feed. */
export function extend(hash: Uint8Array, line: string | Uint8Array): Buffer {
  // Three times as fast as node's, and each event of each command passes here.
  const next = Buffer.allocUnsafe(32);
  new Bun.SHA256().update(hash).update(line).digest(next);
  return next;
}

const hashBytes = 32;
const lineFeed = 0x0a;
/** The hash so far, and behind it the line that it goes on with: fed in one piece, it takes half the time. */
let scratch = Buffer.allocUnsafeSlow(4_096);

/** As `extend` by each of them. @param lines each with its line feed */
export function extendByLines(hash: Uint8Array, lines: Buffer): Buffer {
  scratch.set(hash);
  for (let start = 0; start < lines.length; ) {
    const end = lines.indexOf(lineFeed, start);
    if (end < 0) throw new RangeError("the last line has no line feed");
    const length = hashBytes + end - start;
    if (scratch.length < length) {
      const grown = Buffer.allocUnsafeSlow(length * 2);
      scratch.copy(grown, 0, 0, hashBytes);
      scratch = grown;
    }
    lines.copy(scratch, hashBytes, start, end);
    Bun.SHA256.hash(scratch.subarray(0, length), scratch.subarray(0, hashBytes));
    start = end + 1;
  }
  return Buffer.from(scratch.subarray(0, hashBytes));
}

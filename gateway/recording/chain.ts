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

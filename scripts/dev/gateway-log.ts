/** Reads the log of a gateway as it grows: what it says of its policy, and its other lines. */
import { closeSync, openSync, readSync } from "node:fs";
import { StringDecoder } from "node:string_decoder";

const lookMs = 10;
const chunkBytes = 65_536;

export interface LogLine {
  readonly message: string;
  readonly level: string;
  /** Of the policy that is in force, where the line is about one. */
  readonly digest: string | undefined;
  /** What went wrong, where the line says so. */
  readonly error: string | undefined;
}

/** @param text of one line; what is no JSON (a fault's stack, a compiler's words) is a message. */
export function parseLine(text: string): LogLine {
  try {
    const { message, level, revision, error } = JSON.parse(text);
    const said = typeof error === "object" && error !== null ? error.message : error;
    return { message: String(message), level: String(level), digest: revision?.digest, error: said };
  } catch {
    return { message: text, level: "error", digest: undefined, error: undefined };
  }
}

/** @returns a function that ends it. */
export function followLog(path: string, told: (line: LogLine) => void): () => void {
  const file = openSync(path, "r");
  const decoder = new StringDecoder("utf8");
  const chunk = Buffer.alloc(chunkBytes);
  let rest = "";
  const timer = setInterval(() => {
    for (let length = readSync(file, chunk); length > 0; length = readSync(file, chunk)) {
      const lines = (rest + decoder.write(chunk.subarray(0, length))).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line !== "") told(parseLine(line));
    }
  }, lookMs);
  return () => {
    clearInterval(timer);
    closeSync(file);
  };
}

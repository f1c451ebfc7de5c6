/**
 * The digest that OPA's bundle signatures give a file: of its bytes, or where the file is structured (`data.json`,
 * `.manifest`), of its JSON with sorted keys and without white space, as Go's encoder writes it. Numbers keep the
 * spelling that they have in the file.
 */
import { createHash } from "node:crypto";
import { basename } from "node:path";
import { GatewayError } from "../errors.ts";

/** By the names that OPA gives them; MD5 and SHA-1, which it also takes, are refused. */
const hashes = { "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512" } as const;

class NumberLiteral {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

function parseLiterally(bytes: Uint8Array, name: string): unknown {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) => {
      if (typeof value !== "number") return value;
      if (context?.source === undefined) throw new SyntaxError("a number without its text");
      return new NumberLiteral(context.source);
    });
  } catch (cause) {
    throw new GatewayError("policy.bundle_invalid", `policy bundle: ${name} is not JSON`, { cause });
  }
}

function writeText(text: string, name: string): string {
  if (!text.isWellFormed()) {
    throw new GatewayError("policy.bundle_invalid", `policy bundle: ${name} holds half of a character`);
  }
  return JSON.stringify(text)
    .replace(/\u2028/g, "\\u2028")
    .replace(/\u2029/g, "\\u2029");
}

/** Go orders text by its bytes in UTF-8, JavaScript by UTF-16. */
const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));

function write(value: unknown, name: string): string {
  if (typeof value === "string") return writeText(value, name);
  if (value instanceof NumberLiteral) return value.text;
  if (Array.isArray(value)) return `[${value.map((item) => write(item, name)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const fields = new Map<string, unknown>(Object.entries(value));
  const keys = [...fields.keys()].sort(byBytes);
  return `{${keys.map((key) => `${writeText(key, name)}:${write(fields.get(key), name)}`).join(",")}}`;
}

/** What OPA reads as a document, by the last part of its name; it also reads data.yaml, which no bundle of ours has. */
function isStructured(name: string): boolean {
  const base = basename(name);
  return base === "data.json" || base === ".manifest";
}

/** @returns lower-case hex, or undefined where the algorithm is not accepted. Throws `policy.bundle_invalid`. */
export function signedDigest(name: string, content: Uint8Array, algorithm: string): string | undefined {
  const hash = Object.hasOwn(hashes, algorithm) ? hashes[algorithm as keyof typeof hashes] : undefined;
  if (hash === undefined) return undefined;
  const signed = isStructured(name) ? write(parseLiterally(content, name), name) : content;
  return createHash(hash).update(signed).digest("hex");
}

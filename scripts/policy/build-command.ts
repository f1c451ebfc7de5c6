/** `bun run policy build`: the committed bundle; with a signing key, a signed one beside it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { buildBundle, policiesFolder, writeDefaultBundle } from "./build.ts";
import { signBundle } from "./sign.ts";

export const buildUsage =
  "usage: bun run policy build [--signing-key key.pem [--signing-alg ES256] [--signing-key-id id] [--scope scope]] [-o file]";

/** @returns what was written. */
export async function build(args: readonly string[]): Promise<string> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      "signing-key": { type: "string" },
      "signing-alg": { type: "string" },
      "signing-key-id": { type: "string" },
      scope: { type: "string" },
      output: { type: "string", short: "o" },
    },
  });
  const key = values["signing-key"];
  if (key === undefined) {
    const signing = ["signing-alg", "signing-key-id", "scope"] as const;
    if (signing.some((name) => values[name] !== undefined)) throw new Error(buildUsage);
    if (values.output === undefined) return writeDefaultBundle();
    writeFileSync(values.output, buildBundle(policiesFolder));
    return values.output;
  }
  const output = values.output ?? join(policiesFolder, "dist/signed.tar.gz");
  const signed = await signBundle(buildBundle(policiesFolder), {
    key: readFileSync(key, "utf8"),
    algorithm: values["signing-alg"],
    keyId: values["signing-key-id"],
    scope: values.scope,
  });
  writeFileSync(output, signed);
  return relative(process.cwd(), output);
}

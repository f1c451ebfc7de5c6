/** `bun run policy build`: the committed bundle; with a signing key, a signed one beside it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { commitForm, commitOfSources } from "../../gateway/policy/commit.ts";
import { buildBundle, writeDefaultBundle } from "./build.ts";
import { parseLine, WrongLine } from "./line.ts";
import { signBundle } from "./sign.ts";
import { policiesFolder, sourcePathspecs } from "./sources.ts";

export const buildUsage = `usage: bun run policy build [-o file] [--commit sha] [--signing-key key.pem [--signing-alg ES256] [--signing-key-id id] [--scope scope]]
The committed bundle, which names no commit, is what is built without options.`;

/** @returns what was written. */
export async function build(args: readonly string[]): Promise<string> {
  const { values } = parseLine(buildUsage, {
    args: [...args],
    options: {
      "signing-key": { type: "string" },
      "signing-alg": { type: "string" },
      "signing-key-id": { type: "string" },
      scope: { type: "string" },
      output: { type: "string", short: "o" },
      /** By default that of the sources, as git has it. */
      commit: { type: "string" },
    },
  });
  const built = async () => {
    const commit = values.commit ?? (await commitOfSources(policiesFolder, sourcePathspecs));
    if (commit !== undefined && !commitForm.test(commit)) throw new Error(`--commit ${commit}: expected its full name`);
    return buildBundle(policiesFolder, commit);
  };
  const key = values["signing-key"];
  if (key === undefined) {
    const signing = ["signing-alg", "signing-key-id", "scope"] as const;
    if (signing.some((name) => values[name] !== undefined))
      throw new WrongLine("that goes with --signing-key", buildUsage);
    if (values.output === undefined) {
      if (values.commit !== undefined) throw new WrongLine("--commit goes with -o or --signing-key", buildUsage);
      return writeDefaultBundle();
    }
    writeFileSync(values.output, await built());
    return values.output;
  }
  const output = values.output ?? join(policiesFolder, "dist/signed.tar.gz");
  const signed = await signBundle(await built(), {
    key: readFileSync(key, "utf8"),
    algorithm: values["signing-alg"],
    keyId: values["signing-key-id"],
    scope: values.scope,
  });
  writeFileSync(output, signed);
  return relative(process.cwd(), output);
}

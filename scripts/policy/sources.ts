/** What a policy's sources are: Rego and data, in a folder. */
import { createHash } from "node:crypto";
import { cpSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkData, type PolicyData, parseDataFile } from "../../gateway/policy/data.ts";

export const policiesFolder = resolve(import.meta.dir, "../../policies");

/** Rego sources (tests left out) and data, relative to the folder, sorted. */
export function policySources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => !name.startsWith("dist/") && !name.split("/").some((part) => part.startsWith(".")))
    .filter((name) => (name.endsWith(".rego") && !name.endsWith("_test.rego")) || name === "data.yaml")
    .sort();
}

/** The same as git names them. */
export const sourcePathspecs = ["*.rego", "data.yaml", ":!*_test.rego", ":!dist"];

/** Sources, their tests and data, in a folder of their own; without what is compiled or only the linter's. */
export function copySources(to: string): void {
  cpSync(policiesFolder, to, { recursive: true, filter: (path) => !/\/(dist|\.regal)$/.test(path) });
}

/** A folder's data.yaml. @throws GatewayError policy.bundle_invalid, naming the line */
export function sourceData(folder: string): PolicyData {
  const { data, lineOf } = parseDataFile(readFileSync(join(folder, "data.yaml"), "utf8"), "data.yaml");
  return checkData(data, "data.yaml", lineOf);
}

/** sha256:<hex> of the sources' names and contents: what a bundle made of them says of itself. */
export function sourceRevision(folder: string): string {
  const revision = createHash("sha256");
  for (const name of policySources(folder)) {
    const content = readFileSync(join(folder, name));
    revision.update(`${name}\u0000${content.length}\u0000`).update(content);
  }
  return `sha256:${revision.digest("hex")}`;
}

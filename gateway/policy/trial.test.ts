import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { tarball } from "../../scripts/policy/tarball.ts";
import { readArchive } from "./archive.ts";
import type { PolicyMaterial } from "./material.ts";
import { Policy } from "./policy.ts";
import { tryMaterial } from "./trial.ts";

const fixture = (name: string): Uint8Array =>
  readFileSync(join(import.meta.dir, "../../fixtures/policy", `${name}.tar.gz`));
const defaults = readFileSync(join(import.meta.dir, "../../policies/dist/bundle.tar.gz"));

function changed(files: Record<string, Uint8Array | undefined>): Uint8Array {
  const all = new Map([...readArchive(defaults), ...Object.entries(files)]);
  return tarball([...all].flatMap(([name, content]) => (content ? [[name, Buffer.from(content)] as const] : [])));
}

function manifest(change: (manifest: { wasm: { entrypoint: string }[] }) => void): Uint8Array {
  const parsed = JSON.parse(Buffer.from(readArchive(defaults).get(".manifest") ?? []).toString());
  change(parsed);
  return Buffer.from(JSON.stringify(parsed));
}

async function refusal(bundle: Uint8Array, more: Partial<PolicyMaterial> = {}): Promise<string> {
  const tried = tryMaterial({ bundle, source: "test", ...more });
  const error = await tried.then(
    () => new Error("it was accepted"),
    (thrown) => thrown,
  );
  expect(error).toMatchObject({ code: "policy.bundle_invalid" });
  return error.message;
}

// (module (func $f (loop (br 0))) (start $f))
const endless = Uint8Array.from(
  [
    [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    [1, 4, 1, 0x60, 0, 0],
    [3, 2, 1, 0],
    [8, 1, 0],
    [10, 9, 1, 7, 0, 3, 0x40, 0x0c, 0, 0x0b, 0x0b],
  ].flat(),
);

test("what is no policy with both entrypoints is refused, and says why", async () => {
  expect(await refusal(changed({ "policy.wasm": undefined }))).toMatch(/has no policy.wasm/);
  expect(await refusal(changed({ "policy.wasm": Buffer.from("no module") }))).toMatch(/not WebAssembly/);
  expect(await refusal(changed({ "policy.wasm": endless.subarray(0, 8) }))).toMatch(/not an OPA policy/);
  const without = manifest(({ wasm }) => wasm.pop());
  expect(await refusal(changed({ ".manifest": without }))).toMatch(/has no entrypoint sallyport\/session/);
  const other = JSON.stringify({ "": "no data of a policy" });
  expect(await refusal(changed({ "data.json": Buffer.from(`[${other}]`) }))).toMatch(/data.json/);
});

test("a policy that answers no valid decision is refused", async () => {
  expect(await refusal(fixture("malformed"))).toMatch(/fails its self-test: The policy's decision is not valid/);
  expect(await refusal(fixture("abort"))).toMatch(/fails its self-test: The policy could not be evaluated/);
});

test("a module that never ends does not hold up the process that tries it", async () => {
  using _ = loweredLimits({ policyTrialMs: 1_500 });
  const startedMs = performance.now();
  let ticks = 0;
  const ticking = setInterval(() => ticks++, 10);
  expect(await refusal(changed({ "policy.wasm": endless }))).toMatch(/did not end/);
  clearInterval(ticking);
  expect(performance.now() - startedMs).toBeLessThan(5_000);
  expect(ticks).toBeGreaterThan(50);
});

test("material can be posted, and gives an equal policy where it arrives", async () => {
  const material: PolicyMaterial = {
    ...{ bundle: new Uint8Array(defaults), source: "test", commit: "a".repeat(40) },
    data: { text: "labels: { pii: { mask: hash } }\n", name: "data.yaml" },
  };
  const here = await Policy.from(material);
  const { port1, port2 } = new MessageChannel();
  const received = new Promise<PolicyMaterial>((resolve) => {
    port2.onmessage = ({ data }) => resolve(data);
  });
  port1.postMessage(material);
  const there = await Policy.from(await received);
  port1.close();
  port2.close();
  expect(there.revision).toEqual(here.revision);
  expect(there.bundle.contentDigest).toBe(here.bundle.contentDigest);
  expect(there.data).toEqual(here.data);
  const { bundle, signedBy } = await tryMaterial(material);
  expect({ ...bundle, wasm: Buffer.from(bundle.wasm) }).toEqual({
    ...here.bundle,
    wasm: Buffer.from(here.bundle.wasm),
  });
  expect(signedBy).toBeUndefined();
});

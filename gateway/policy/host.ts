/**
 * Holds the policy in force. A new one is tried aside (`trial.ts`), and takes over at once when it proved itself;
 * whatever is wrong with it, the old one stays, and `status()` says why.
 */
import { readFile } from "node:fs/promises";
import { isRemote } from "../config.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Revision } from "./decision.ts";
import { FileWatch } from "./file-watch.ts";
import { type PolicyMaterial, sameMaterial } from "./material.ts";
import { Policy } from "./policy.ts";
import { readVerificationKey, type Verification } from "./signature.ts";
import { openSource, type PolicySettings, type PolicySource } from "./source.ts";
import { type Tried, tryMaterial } from "./trial.ts";
import { Watchdog } from "./watchdog.ts";

export type PolicyListener = (policy: Policy, previous: Policy) => void;

/** What a reload came to. `stale`: the bundle server could not be read; the latest good bundle serves. */
export type ReloadResult = "accepted" | "unchanged" | "stale" | "refused";

export interface PolicyStatus {
  readonly revision: Revision;
  /** Where the bundle is from. */
  readonly source: string;
  /** Id of the key that signed it, where signatures are verified. */
  readonly signedBy: string | undefined;
  /** Milliseconds since the epoch: when this revision came into force here, and when another was last looked for. */
  readonly loadedAt: number;
  readonly attemptedAt: number;
  /** Why the latest attempt failed, free of secrets; undefined when it did not. */
  readonly lastError: string | undefined;
}

async function readVerification(verify: PolicySettings["verify"]): Promise<Verification | undefined> {
  if (verify === undefined) return undefined;
  const keys: Record<string, Verification["keys"][string]> = {};
  for (const [id, { key, algorithm }] of Object.entries(verify.keys)) {
    const pem = await readFile(key, "utf8").catch((cause) => {
      throw new GatewayError("config.invalid", `policies.verify: ${key} cannot be read`, { cause });
    });
    keys[id] = { pem, algorithm };
    readVerificationKey(id, keys[id]);
  }
  return { keys, scope: verify.scope };
}

/** What an error says to everyone; the rest of it is for the log. */
function messageOf(error: unknown): string {
  return error instanceof GatewayError ? error.message : "the policy could not be loaded: a fault, see the log";
}

/** What a gateway starts with: what its source has, or else what it had. Throws `policy.*`. */
async function readFirst(source: PolicySource, verification: Verification | undefined) {
  try {
    const { material } = await source.read();
    return { material, tried: await tryMaterial(material, verification), problem: undefined };
  } catch (problem) {
    const material = await source.readKept();
    if (material === undefined) throw problem;
    return { material, tried: await tryMaterial(material, verification), problem };
  }
}

interface InForce {
  readonly policy: Policy;
  readonly material: PolicyMaterial;
  readonly verification: Verification | undefined;
  readonly signedBy: string | undefined;
  readonly loadedAt: number;
}

export class PolicyHost {
  readonly #settings: PolicySettings;
  readonly #source: PolicySource;
  readonly #watchdog: Watchdog;
  readonly #listeners = new Set<PolicyListener>();
  readonly #observers = new Set<(result: ReloadResult, error: unknown) => void>();
  #inForce: InForce;
  #attemptedAt: number;
  #lastError: string | undefined;
  #running: Promise<Policy> | undefined;
  #next: Promise<Policy> | undefined;
  #files: FileWatch | undefined;
  #timer: Timer | undefined;
  #failures = 0;
  #watching = false;

  private constructor(settings: PolicySettings, source: PolicySource, watchdog: Watchdog, first: InForce) {
    this.#settings = settings;
    this.#source = source;
    this.#watchdog = watchdog;
    this.#inForce = first;
    this.#attemptedAt = first.loadedAt;
  }

  /** Throws `policy.*`: a gateway without a policy that proved itself does not start. */
  static async load(settings: PolicySettings): Promise<PolicyHost> {
    const source = openSource(settings);
    const verification = await readVerification(settings.verify);
    const { material, tried, problem } = await readFirst(source, verification);
    const watchdog = await Watchdog.start();
    try {
      const host = new PolicyHost(settings, source, watchdog, await build(material, verification, tried, watchdog));
      const unkept = await host.#keep(material);
      const error = problem ?? unkept;
      if (error !== undefined) host.#lastError = messageOf(error);
      return host;
    } catch (error) {
      watchdog.stop();
      throw error;
    }
  }

  current(): Policy {
    return this.#inForce.policy;
  }

  status(): PolicyStatus {
    const { policy, material, signedBy, loadedAt } = this.#inForce;
    const { revision } = policy;
    return {
      revision,
      source: material.source,
      signedBy,
      loadedAt,
      attemptedAt: this.#attemptedAt,
      lastError: this.#lastError,
    };
  }

  /**
   * Resolves to the policy then in force; rejects with what is wrong with the new one, and the old one stays. What is
   * there when it is called is looked at, also where a reload is under way.
   */
  reload(): Promise<Policy> {
    if (this.#running === undefined) {
      this.#running = this.#reload().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.reload();
      });
    return this.#next;
  }

  async #reload(): Promise<Policy> {
    try {
      const { material, problem } = await this.#source.read();
      const changed = await this.#take(material);
      const unkept = await this.#keep(material);
      const error = problem ?? unkept;
      this.#ended(changed ? "accepted" : problem === undefined ? "unchanged" : "stale", error);
      return this.#inForce.policy;
    } catch (error) {
      this.#ended("refused", error);
      throw error;
    }
  }

  /** @returns why it could not be kept for the next start, which is no reason not to use it. */
  async #keep(material: PolicyMaterial): Promise<GatewayError | undefined> {
    try {
      await this.#source.accepted(material);
      return undefined;
    } catch (cause) {
      return new GatewayError("policy.unavailable", "the bundle is in force, but could not be kept on disk", { cause });
    }
  }

  #ended(result: ReloadResult, error: unknown): void {
    this.#attemptedAt = Date.now();
    this.#lastError = error === undefined ? undefined : messageOf(error);
    this.#failures = error === undefined ? 0 : this.#failures + 1;
    for (const observe of this.#observers) observe(result, error);
    this.#schedule();
  }

  /** @returns whether another policy is in force now. */
  async #take(material: PolicyMaterial): Promise<boolean> {
    const before = this.#inForce;
    const verification = await readVerification(this.#settings.verify);
    // Equal bytes are verified again where the keys are others.
    if (Bun.deepEquals(verification, before.verification) && sameMaterial(material, before.material)) return false;
    const tried = await tryMaterial(material, verification);
    const { contentDigest, revision } = before.policy.bundle;
    if (tried.bundle.contentDigest === contentDigest && tried.bundle.revision.commit === revision.commit) {
      this.#inForce = { ...before, material, verification, signedBy: tried.signedBy };
      return false;
    }
    const taken = await build(material, verification, tried, this.#watchdog);
    this.#inForce = taken;
    for (const listener of this.#listeners) listener(taken.policy, before.policy);
    return true;
  }

  /** @returns a function that ends the listening. A listener must not throw. */
  onChange(listener: PolicyListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Told how each reload ended. It must not throw. */
  onReload(observer: (result: ReloadResult, error: unknown) => void): void {
    this.#observers.add(observer);
  }

  /** From here on reloads by itself: when files change, when a bundle server is due, and again after a failure. */
  async watch(): Promise<void> {
    this.#watching = true;
    const keys = Object.values(this.#settings.verify?.keys ?? {}).map(({ key }) => key);
    const files = [...this.#source.files, ...keys];
    if (this.#settings.watch !== false && files.length > 0) {
      this.#files = new FileWatch(files, () => void this.reload().catch(() => undefined));
      await this.#files.ready;
    }
    // What changed between the first reading and now.
    await this.reload().catch(() => undefined);
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (!this.#watching) return;
    const { bundle, poll } = this.#settings;
    const polled = isRemote(bundle) ? (poll?.interval ?? 30_000) : undefined;
    const first = polled ?? (this.#failures > 0 ? limits.policyRetryMs : undefined);
    if (first === undefined) return;
    const backedOff = first * 2 ** Math.min(this.#failures, 20);
    const waitMs = this.#failures === 0 ? first : Math.min(backedOff, Math.max(first, limits.policyRetryMsMax));
    const jitter = 1 + (poll?.jitter ?? 0.1) * (2 * Math.random() - 1);
    this.#timer = setTimeout(() => void this.reload().catch(() => undefined), waitMs * jitter);
    this.#timer.unref();
  }

  stop(): void {
    this.#watching = false;
    clearTimeout(this.#timer);
    this.#files?.stop();
    this.#listeners.clear();
    this.#watchdog.stop();
  }
}

async function build(
  material: PolicyMaterial,
  verification: Verification | undefined,
  { bundle, signedBy }: Tried,
  watchdog: Watchdog,
): Promise<InForce> {
  const parsed = { ...bundle, revision: Object.freeze({ ...bundle.revision }) };
  const policy = await Policy.from(material, watchdog, parsed);
  return { policy, material, verification, signedBy, loadedAt: Date.now() };
}

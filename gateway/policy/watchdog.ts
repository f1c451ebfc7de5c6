/**
 * Ends the process when a policy evaluation hangs: WebAssembly cannot be interrupted from its own thread, and a
 * gateway that answers nothing must not look alive. A Worker looks at a shared counter that each evaluation moves.
 *
 *   Int32 [0] ready | [4] sequence: odd while an evaluation runs | [8] 32 bytes: digest of the command, zeros for a session
 */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { EvaluationWatch } from "./engine.ts";
import { digestBytes, digestOffset, sharedBytes, type WatchdogStart } from "./watchdog-worker.ts";

const startTimeoutMs = 10_000;

export class Watchdog implements EvaluationWatch {
  readonly #worker: Worker;
  readonly #state: Int32Array;
  readonly #digest: Buffer;
  #failed = false;

  private constructor(limitMs: number) {
    const shared = new SharedArrayBuffer(sharedBytes);
    this.#state = new Int32Array(shared, 0, 2);
    this.#digest = Buffer.from(shared, digestOffset, digestBytes);
    this.#worker = new Worker(new URL("./watchdog-worker.ts", import.meta.url));
    this.#worker.addEventListener("error", () => {
      this.#failed = true;
    });
    this.#worker.addEventListener("close", () => {
      this.#failed = true;
    });
    this.#worker.postMessage({ shared, limitMs } satisfies WatchdogStart);
  }

  /** Resolves once the Worker watches. */
  static async start(): Promise<Watchdog> {
    const watchdog = new Watchdog(limits.policyEvaluationMs);
    const deadline = performance.now() + startTimeoutMs;
    while (Atomics.load(watchdog.#state, 0) === 0) {
      if (watchdog.#failed || performance.now() > deadline) {
        watchdog.stop();
        throw new GatewayError("internal", "The watchdog of policy evaluations did not start.");
      }
      await Bun.sleep(5);
    }
    watchdog.#worker.unref();
    return watchdog;
  }

  begin(digest: string): void {
    if (this.#failed) {
      throw new GatewayError("policy.evaluation_failed", "The watchdog of policy evaluations is not running.");
    }
    const written = digest === "" ? 0 : this.#digest.write(digest.slice("sha256:".length), "hex");
    if (written < digestBytes) this.#digest.fill(0, written);
    Atomics.add(this.#state, 1, 1);
  }

  end(): void {
    // Odd while running; `end` after a `begin` that threw changes nothing.
    if (Atomics.load(this.#state, 1) & 1) Atomics.add(this.#state, 1, 1);
  }

  stop(): void {
    this.#failed = true;
    this.#worker.terminate();
  }
}

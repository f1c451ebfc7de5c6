/** What the verb of a statement says of it. */
import type { StatementClass } from "../../policy/input.ts";
import type { AnalysedStatement } from "../analysed.ts";

export interface Kind {
  readonly verb: string;
  readonly class: StatementClass;
  readonly limit?: number | null;
  readonly statement?: Partial<AnalysedStatement>;
}

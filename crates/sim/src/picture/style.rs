//! How pictures look, in light and in dark surroundings. Plain class rules: they work in browsers, in viewers of images and in converters.

/// Colours of terms, in turn.
pub const TERMS: usize = 8;

/// The style sheet of a picture.
pub fn sheet() -> String {
    let light = [
        "#2563eb", "#d97706", "#059669", "#9333ea", "#db2777", "#0891b2", "#65a30d", "#b45309",
    ];
    let dark = [
        "#60a5fa", "#fbbf24", "#34d399", "#c084fc", "#f472b6", "#22d3ee", "#a3e635", "#f59e0b",
    ];
    let colours = |palette: [&str; TERMS]| -> String {
        let rule = |(n, colour): (usize, &str)| {
            format!(".t{n}{{fill:{colour};stroke:{colour}}}.x{n}{{fill:{colour}}}")
        };
        palette.into_iter().enumerate().map(rule).collect()
    };
    let dark_base = BASE_DARK;
    format!(
        "{BASE}{}@media(prefers-color-scheme:dark){{{dark_base}{}}}",
        colours(light),
        colours(dark)
    )
}

const BASE: &str = "\
svg{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px}\
.bg{fill:#ffffff}\
text{fill:#1f2937}\
.title{font-size:16px;font-weight:700}\
.name{font-size:15px;font-weight:700;text-anchor:middle}\
.sub{font-size:11px;fill:#6b7280;text-anchor:middle}\
.time{font-size:10px;fill:#6b7280;text-anchor:end;font-variant-numeric:tabular-nums}\
.grid{stroke:#e5e7eb;stroke-width:1}\
.rail{stroke:#cbd5e1;stroke-width:2;stroke-dasharray:1 5;stroke-linecap:round}\
.follows{fill-opacity:.22;stroke:none}\
.fresh{fill:#94a3b8;fill-opacity:.35;stroke:none}\
.stands{fill-opacity:.12;stroke-width:1.6;stroke-dasharray:4 3}\
.leads{stroke:none}\
.paused{fill:#9ca3af;fill-opacity:.55;stroke:#6b7280;stroke-dasharray:2 2}\
.termname{fill:#ffffff;font-weight:700;font-size:10px;text-anchor:middle}\
.m{stroke-width:1.3;fill:none;stroke-opacity:.9}\
.head{stroke:none}\
.election{stroke:#ea580c}.election-h{fill:#ea580c}\
.vote{stroke:#a855f7}.vote-h{fill:#a855f7}\
.append{stroke:#2563eb}.append-h{fill:#2563eb}\
.reply{stroke:#64748b}.reply-h{fill:#64748b}\
.snapshot{stroke:#0d9488;stroke-width:2.2}.snapshot-h{fill:#0d9488}\
.request{stroke:#0891b2;stroke-dasharray:5 2}.request-h{fill:#0891b2}\
.heartbeat{stroke:#94a3b8;stroke-opacity:.6}.heartbeat-h{fill:#94a3b8}\
.client{stroke:#16a34a}.client-h{fill:#16a34a}\
.no{stroke:#dc2626}.no-h{fill:#dc2626}\
.lost{stroke-dasharray:3 3}\
.cross{stroke:#dc2626;stroke-width:2.2;fill:none;stroke-linecap:round}\
.cut{stroke:#dc2626;stroke-width:3;stroke-linecap:butt;fill:none}\
.cutpart{stroke-dasharray:3 4}\
.label{font-size:9.5px;text-anchor:middle;paint-order:stroke;stroke:#ffffff;stroke-width:3px;stroke-linejoin:round}\
.said{font-size:10.5px}\
.saidno{fill:#b91c1c}\
.note{font-size:12.5px;font-weight:600}\
.fact{font-size:11.5px;fill:#4b5563}\
.fault{font-size:11.5px;fill:#b91c1c}\
.lead{stroke:#e5e7eb;stroke-width:1}\
.decided{fill:#16a34a;stroke:#ffffff;stroke-width:1}\
.decidedname{font-size:9.5px;text-anchor:end;fill:#15803d;paint-order:stroke;stroke:#ffffff;stroke-width:3px;stroke-linejoin:round}\
.start{fill:#16a34a}\
.bad{fill:#dc2626}.badline{stroke:#dc2626;stroke-width:2}\
.badtext{fill:#dc2626;font-weight:700;font-size:13px}\
.over{paint-order:stroke;stroke:#ffffff;stroke-width:3px;stroke-linejoin:round}\
.idle{stroke:#94a3b8;stroke-width:1;stroke-dasharray:2 4}";

const BASE_DARK: &str = "\
.bg{fill:#0f172a}\
text{fill:#e5e7eb}\
.sub,.time{fill:#94a3b8}\
.grid,.lead{stroke:#1e293b}\
.rail{stroke:#475569}\
.follows{fill-opacity:.3}\
.termname{fill:#0f172a}\
.election{stroke:#fb923c}.election-h{fill:#fb923c}\
.vote{stroke:#c084fc}.vote-h{fill:#c084fc}\
.append{stroke:#60a5fa}.append-h{fill:#60a5fa}\
.reply,.heartbeat{stroke:#94a3b8}.reply-h,.heartbeat-h{fill:#94a3b8}\
.label,.decidedname,.over{stroke:#0f172a}\
.saidno,.fault{fill:#fca5a5}\
.fact{fill:#9ca3af}\
.decided{stroke:#0f172a}\
.decidedname{fill:#4ade80}\
.idle{stroke:#475569}";

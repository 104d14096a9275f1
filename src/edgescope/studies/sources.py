"""The papers whose claims are tested by several studies, or named in several places."""

from __future__ import annotations

CHEN = "Chen et al. 2026 (Muon Sublates the Edge of Stability)"
COHEN_2021 = "Cohen et al. 2021 (arXiv 2103.00065)"
COHEN_2022 = "Cohen et al. 2022 (arXiv 2207.14484)"
COHEN_2024 = "Cohen, Damian et al. 2024 (arXiv 2410.24206)"
ISLAMOV = "Islamov et al. 2026 (arXiv 2603.05002)"
LIAO = "Liao, Kolomvaki and Kyrillidis 2026 (arXiv 2604.21016)"
MISHKIN = "Mishkin et al. 2024 (arXiv 2403.04081)"
TUCI = "Tuci et al. 2026 (arXiv 2604.19740)"

"""The 117 structures of TotalSegmentator version 2, in its label order, with SNOMED CT codes.

Names in lower case, as manifests have them. Order and codes as in the authors' toolkit
(github.com/wasserth/TotalSegmentator: class map "total" and totalsegmentator_snomed_mapping.csv).
A code says the structure, its modifier left or right where the structure does not say it.
"""

from __future__ import annotations

from medmtl.core.labels import LEFT, RIGHT, Code, SegmentSpec

__all__ = ["TOTAL_SEGMENTS"]

_ORGANS = (
    ("spleen", "78961009", "Spleen"),
    ("kidney_right", "64033007", "Kidney"),
    ("kidney_left", "64033007", "Kidney"),
    ("gallbladder", "28231008", "Gallbladder"),
    ("liver", "10200004", "Liver"),
    ("stomach", "69695003", "Stomach"),
    ("pancreas", "15776009", "Pancreas"),
    ("adrenal_gland_right", "23451007", "Adrenal gland"),
    ("adrenal_gland_left", "23451007", "Adrenal gland"),
    ("lung_upper_lobe_left", "45653009", "Upper lobe of lung"),
    ("lung_lower_lobe_left", "90572001", "Lower lobe of lung"),
    ("lung_upper_lobe_right", "45653009", "Upper lobe of lung"),
    ("lung_middle_lobe_right", "72481006", "Middle lobe of right lung"),
    ("lung_lower_lobe_right", "90572001", "Lower lobe of lung"),
    ("esophagus", "32849002", "Esophagus"),
    ("trachea", "44567001", "Trachea"),
    ("thyroid_gland", "69748006", "Thyroid gland"),
    ("small_bowel", "30315005", "Small intestine"),
    ("duodenum", "38848004", "Duodenum"),
    ("colon", "71854001", "Colon"),
    ("urinary_bladder", "89837001", "Urinary bladder"),
    ("prostate", "41216001", "Prostate"),
    ("kidney_cyst_left", "367643001", "Cyst"),
    ("kidney_cyst_right", "367643001", "Cyst"),
)
_SPINE = (
    ("sacrum", "54735007", "Sacrum"),
    *(
        (f"vertebrae_{name.lower()}", code, f"{name} vertebra")
        for name, code in (
            ("S1", "65985001"), ("L5", "49668003"), ("L4", "11994002"), ("L3", "36470004"),
            ("L2", "14293000"), ("L1", "66794005"), ("T12", "23215003"), ("T11", "12989004"),
            ("T10", "7610001"), ("T9", "82687006"), ("T8", "11068009"), ("T7", "62487009"),
            ("T6", "45296009"), ("T5", "56401006"), ("T4", "73071006"), ("T3", "1626008"),
            ("T2", "53733008"), ("T1", "64864005"), ("C7", "87391001"), ("C6", "36054005"),
            ("C5", "36978003"), ("C4", "5329002"), ("C3", "113205007"), ("C2", "39976000"),
            ("C1", "14806007"),
        )
    ),
)  # fmt: skip
_VESSELS = (
    ("heart", "80891009", "Heart"),
    ("aorta", "15825003", "Aorta"),
    ("pulmonary_vein", "122972007", "Pulmonary vein"),
    ("brachiocephalic_trunk", "12691009", "Brachiocephalic artery"),
    ("subclavian_artery_right", "36765005", "Subclavian artery"),
    ("subclavian_artery_left", "36765005", "Subclavian artery"),
    ("common_carotid_artery_right", "32062004", "Common carotid artery"),
    ("common_carotid_artery_left", "32062004", "Common carotid artery"),
    ("brachiocephalic_vein_left", "8887007", "Brachiocephalic vein"),
    ("brachiocephalic_vein_right", "8887007", "Brachiocephalic vein"),
    ("atrial_appendage_left", "68786006", "Auricular appendage"),
    ("superior_vena_cava", "48345005", "Superior vena cava"),
    ("inferior_vena_cava", "64131007", "Inferior vena cava"),
    ("portal_vein_and_splenic_vein", "110765007", "Portal vein and splenic vein"),
    ("iliac_artery_left", "73634005", "Common iliac artery"),
    ("iliac_artery_right", "73634005", "Common iliac artery"),
    ("iliac_vena_left", "46027005", "Common iliac vein"),
    ("iliac_vena_right", "46027005", "Common iliac vein"),
)
_PAIRED_BONES = (
    ("humerus", "85050009", "Humerus"),
    ("scapula", "79601000", "Scapula"),
    ("clavicula", "51299004", "Clavicle"),
    ("femur", "71341001", "Femur"),
    ("hip", "29836001", "Hip"),
)
_PAIRED_MUSCLES = (
    ("gluteus_maximus", "181674001", "Gluteus maximus muscle"),
    ("gluteus_medius", "78333006", "Gluteus medius muscle"),
    ("gluteus_minimus", "75297007", "Gluteus minimus muscle"),
    ("autochthon", "244849004", "Deep muscle of back"),
    ("iliopsoas", "68455001", "Iliopsoas muscle"),
)
_RIBS = (
    ("First", "48535007"), ("Second", "78247007"), ("Third", "25888004"), ("Fourth", "25523003"),
    ("Fifth", "15339008"), ("Sixth", "59558009"), ("Seventh", "24915002"), ("Eighth", "5953002"),
    ("Ninth", "22565002"), ("Tenth", "77644006"), ("Eleventh", "58830002"), ("Twelfth", "43993008"),
)  # fmt: skip


def _both(pairs: tuple[tuple[str, str, str], ...]) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (f"{name}_{side}", code, meaning)
        for name, code, meaning in pairs
        for side in ("left", "right")
    )


_ALL = (
    *_ORGANS,
    *_SPINE,
    *_VESSELS,
    *_both(_PAIRED_BONES),
    ("spinal_cord", "2748008", "Spinal cord"),
    *_both(_PAIRED_MUSCLES),
    ("brain", "12738006", "Brain"),
    ("skull", "89546000", "Skull"),
    *(
        (f"rib_{side}_{place}", code, f"{ordinal} rib")
        for side in ("left", "right")
        for place, (ordinal, code) in enumerate(_RIBS, start=1)
    ),
    ("sternum", "56873002", "Sternum"),
    ("costal_cartilages", "50016007", "Costal cartilage"),
)

_SIDES = {"left": LEFT, "right": RIGHT}


def _code(name: str, value: str, meaning: str) -> Code:
    sides = [_SIDES[word] for word in name.split("_") if word in _SIDES and word not in meaning]
    return Code(value, meaning, modifier=sides[0] if sides else None)


TOTAL_SEGMENTS = tuple(
    SegmentSpec(
        label,
        name,
        _code(name, code, meaning),
        is_lesion=name.startswith("kidney_cyst"),
    )
    for label, (name, code, meaning) in enumerate(_ALL, start=1)
)
"""Label 1 is the spleen, label 117 the costal cartilages."""

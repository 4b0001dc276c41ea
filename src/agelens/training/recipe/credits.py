"""What model files say of where their weights come from."""

from __future__ import annotations

FAIRFACE = {"name": "FairFace, 28,000 pictures", "licence": "CC BY 4.0", "source": "Karkkainen & Joo, WACV 2021"}
UTKFACE = {"name": "UTKFace, 17,778 pictures", "licence": "research only", "source": "Zhang, Song & Qi, CVPR 2017"}
AAF = {"name": "All-Age-Faces, 6,493 pictures", "licence": "research only", "source": "Cheng et al., ICIP 2019"}
CC0 = (
    {"name": "dlib face recognition network: start, teacher", "licence": "CC0 1.0", "source": "D. King, dlib-models"},
    {"name": "dlib age network: teacher", "licence": "CC0 1.0", "source": "Cydral Technology, dlib-models"},
)
SECOND = {"name": "dlib gender network: inside", "licence": "CC0 1.0", "source": "Cydral Technology, dlib-models"}
GENDER_TEACHER = SECOND | {"name": "dlib gender network: teacher"}
RESEARCH_TEACHER = {
    "name": "HSE_FaceRec_tf's MobileNet (VGGFace2, IMDB-WIKI): teacher",
    "licence": "research only",
    "source": "Savchenko, 2019; npm human-models",
}
